"""Published snapshots: made, checked, thinned out, and fetched from a leader (design section 5).

A published snapshot is a directory that restores a node by itself. A node needs it only to give it
away; what it runs on lies in store/.
"""
