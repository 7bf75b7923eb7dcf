"""Back from disaster: what an archive covers, the plan to a target, the replay, the swap (design section 8).

One engine serves point-in-time recovery, full restore and disaster recovery. It never starts a node.
"""
