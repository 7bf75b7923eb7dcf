"""A client of a cluster, over RPC: `async with neumann.connect("h1:7878,h2:7878") as db: ...`.

client.py finds the leader and asks again; session.py makes that safe for writes; link.py is a connection;
rows.py is what this store and the embedded one share.
"""

from __future__ import annotations

from neumann.client.client import Client
from neumann.client.rows import Check, Delete, Put, Row, Store, batch_of, condition

__all__ = ["Check", "Client", "Delete", "Put", "Row", "Store", "batch_of", "condition"]
