"""neumann: an embeddable Raft store whose backups can be trusted.

    async with neumann.open("/var/lib/mine") as db:              # in this process, one node
    async with neumann.connect("h1:7878,h2:7878") as db:         # a cluster
        await db.put("cities", "berlin", {"population": 3_700_000})
        row = await db.get("cities", "berlin")

Both give the same `Store`; errors are the classes of neumann.errors.
"""

from __future__ import annotations

import importlib
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neumann.client import Check, Client, Delete, Put, Row, Store
    from neumann.embedded import EmbeddedStore
    from neumann.errors import NeumannError
    from neumann.query.statement import QueryResult

__version__ = "0.1.0"

__all__ = [
    "Check",
    "Client",
    "Delete",
    "EmbeddedStore",
    "NeumannError",
    "Put",
    "QueryResult",
    "Row",
    "Store",
    "__version__",
    "connect",
    "open",
]

_HOMES = {
    **dict.fromkeys(("Check", "Client", "Delete", "Put", "Row", "Store"), "neumann.client"),
    "EmbeddedStore": "neumann.embedded",
    "NeumannError": "neumann.errors",
    "QueryResult": "neumann.query.statement",
}
"""Loaded when they are asked for: a tool that needs no node, or no client, starts in half the time."""
_MODULES = frozenset({"client", "embedded", "errors", "sync"})
"""Of these, too, `import neumann` is enough."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})


def open(path: str) -> EmbeddedStore:
    """A store in this process, in the directory `path` (made if it is missing). One process at a time."""
    from neumann.embedded import EmbeddedStore

    return EmbeddedStore(posixpath.abspath(path))


def connect(addresses: str, *, timeout_s: float = 10.0) -> Client:
    """A client of the cluster that listens at these addresses, separated by commas."""
    from neumann.client import Client

    return Client([part.strip() for part in addresses.split(",") if part.strip()], timeout_s)
