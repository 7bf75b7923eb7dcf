"""Our core beside etcd's raft: the same inputs, and what may differ stands in one table.

`recorder.py` runs a cluster of ours under a random schedule (`schedules.py`) and writes down, for every
input of every node, the same input in etcd's words (`words.py`); `etcd.py` has an etcd node for each of
ours take them; `differences.py` compares what both are after each input and what both answered, and
holds the table of allowed differences.

What travels between the nodes is always ours: so every schedule of losses, doubles, reorderings, cuts
and crashes means the same on both sides, message by message, and the two never run apart in what they
have heard. What is etcd's is each decision on it: whom to vote for, what to append, cut, commit, refuse,
when to step down, which reads are confirmed.
"""
