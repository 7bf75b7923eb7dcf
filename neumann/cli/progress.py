"""A bar on standard error while a person watches, and nothing where nobody does.

replaying  [########............]  41%   512,000 of 1,254,377   3 s left
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neumann.cli import output

Advance = Callable[[int, int], None]
"""(done, of), in whatever is counted; may be called as often as one likes."""

_INTERVAL_S = 0.1
_CELLS = 20
_CLEAR = "\r\x1b[K"


@contextmanager
def bar(what: str, *, quiet: bool, shown: Callable[[object], str] = output.count) -> Iterator[Advance | None]:
    """Around work that can tell how far it is; None where standard error is no terminal, or with --quiet.

    The bar is wiped at the end, also of work that fails: the result stands alone.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    started_s = drawn_s = time.monotonic()

    def advance(done: int, of: int) -> None:
        nonlocal drawn_s
        now_s = time.monotonic()
        if now_s - drawn_s >= _INTERVAL_S:
            drawn_s = now_s
            sys.stderr.write(_CLEAR + line(what, done, of, now_s - started_s, shown))
            sys.stderr.flush()

    try:
        yield advance
    finally:
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()


def line(what: str, done: int, of: int, elapsed_s: float, shown: Callable[[object], str]) -> str:
    """What the bar says; `of` may turn out too small, the bar stays within its ends."""
    share = min(done / of, 1.0) if of > 0 else 1.0
    filled = int(share * _CELLS)
    left = f"   {output.duration(elapsed_s * (1 - share) / share)} left" if share > 0 else ""
    cells = "#" * filled + "." * (_CELLS - filled)
    return f"{what}  [{cells}]  {share:4.0%}   {shown(done)} of {shown(max(of, done))}{left}"
