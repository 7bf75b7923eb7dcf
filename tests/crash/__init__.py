"""A whole node is restarted from every beginning of what its disk was told, and what it had promised must be
there.

`witness.py` runs a cluster and notes what one node promised at which change of its disk; `runs.py` are the
runs; `restart.py` starts the node again from what a power failure leaves, and judges; `enumerate.py` goes
through all beginnings, and through the subsets of what was not synced.
"""
