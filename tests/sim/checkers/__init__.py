"""What must hold in every run, one rule a file. A broken rule raises `Violation`, which fails the seed.

election.py      at most one leader a term
log_matching.py  an (index, term) lies in one frame everywhere, with one chain value
committed.py     what is committed stays, everywhere the same; a commit index never falls
clients.py       acknowledged writes are durable, reads linearizable, "not done" means not done
segments.py      R4: sealed segments are byte-identical
layout.py        R5: replicas at one marker have one layout digest
"""
