"""Python's collector of cycles as a node's process sets it, for questions that run the product in process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from neumann.cli.server import GC_THRESHOLDS


@contextmanager
def as_in_a_server() -> Iterator[None]:
    """With the settings of the `neumann` program; the old ones come back behind it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
