"""Joins the stations into a running node.

node.py      the facade that servers and embedders call; writes go to the leader, reads are served here
startup.py   what is on disk, what peers say -> what this node does (one pure table)
formation.py forming and joining: the way from no vote to a member
member.py    a node with a vote              pump.py      what the core says, in the order of durability
proposer.py  client bytes -> frames          applier.py   committed frames -> rows and answers
reader.py    linearizable reads              duties.py    what a leader does unasked
peers.py     messages to and from members    snapshots.py markers -> snapshots, published and pruned
"""
