"""The rows: a memtable over immutable sorted tables, and the manifests that name them (design section 5).

The log is the redo log of this store; it has none of its own. A memtable is frozen at a snapshot marker
and becomes a table in a helper process; `Checkpointer` leads that, `Store` is what reads see.
"""
