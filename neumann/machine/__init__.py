"""PURE: what a committed entry means. The log alone decides the state (R3).

The live node, a replay and the flush job all come here, so that they can't differ.
"""
