"""What must hold in every run, one rule a file. A broken rule raises `Violation`, which fails the seed.

election.py      at most one leader a term
log_matching.py  an (index, term) lies in one frame everywhere, with one chain value
committed.py     what is committed stays, everywhere the same; a commit index never falls
promises.py      terms, votes and acknowledged frames survive crashes
clients.py       acknowledged writes are durable, reads linearizable, "not done" means not done
sessions.py      a command of a session is applied once and answered one way
segments.py      R4: sealed segments are byte-identical
layout.py        R5: replicas at one marker have one layout digest
archive.py       R6: the archive is a gap-free, committed continuation
timelines.py     a timeline that was left is neither led nor served
replicas.py      at the end each replica has the rows that the log means
"""
