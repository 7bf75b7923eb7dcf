"""Stores of other people behind one face: RocksDB by `rocksdict`, LevelDB by `plyvel`, both from PyPI.

They are libraries in C++ with a thin binding: what a get costs there is mostly the way into Python and
back. Each has the same bound on its cache as ours, a filter of ten bits a key, and its usual block codec.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from bench.harness.load import Missing
from bench.harness.measured import progress

FILTER_BITS = 10


class Peer(Protocol):
    """An open store of bytes."""

    def put_all(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Write rows one by one, through its own log, without a sync."""

    def get(self, key: bytes) -> bytes | None: ...

    def items(self) -> Iterator[tuple[bytes, bytes]]: ...

    def merge(self) -> None:
        """Merge everything into the lowest level."""

    def close(self) -> None: ...


class Rocks:
    """RocksDB with LZ4 blocks."""

    def __init__(self, directory: Path, cache_bytes: int) -> None:
        rocksdict = _module("rocksdict")
        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(FILTER_BITS, False)
        table.set_block_cache(rocksdict.Cache(cache_bytes))
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_block_based_table_factory(table)
        self._store = rocksdict.Rdict(str(directory), options)
        self.get: Callable[[bytes], bytes | None] = self._store.get

    def put_all(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        store = self._store
        for key, value in rows:
            store[key] = value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._store.items())

    def merge(self) -> None:
        self._store.flush(True)
        self._store.compact_range(None, None)

    def close(self) -> None:
        self._store.close()


class Level:
    """LevelDB with Snappy blocks."""

    def __init__(self, directory: Path, cache_bytes: int) -> None:
        self._store: Any = _module("plyvel").DB(
            str(directory), create_if_missing=True, lru_cache_size=cache_bytes, bloom_filter_bits=FILTER_BITS
        )
        self.get: Callable[[bytes], bytes | None] = self._store.get

    def put_all(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        put = self._store.put
        for key, value in rows:
            put(key, value)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._store.iterator())

    def merge(self) -> None:
        self._store.compact_range()

    def close(self) -> None:
        self._store.close()


Kind = Callable[[Path, int], Peer]
"""Opens a store in a directory, with a bound on its cache in bytes."""
KINDS: dict[str, Kind] = {"rocksdict": Rocks, "plyvel": Level}
"""By the name of the package."""


def installed() -> dict[str, Kind]:
    """Those that can be measured here; a line for each that can't."""
    found: dict[str, Kind] = {}
    for name, kind in KINDS.items():
        try:
            _module(name)
        except Missing as error:
            progress(str(error))
        else:
            found[name] = kind
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Missing(f"{name} is not installed; install it with: pip install {name}") from None
