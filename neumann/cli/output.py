"""Text on the terminal: aligned tables, numbers and times for people. Results go to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

_UNITS = ("B", "KB", "MB", "GB", "TB")


def write(text: str) -> None:
    """A result, ended by one newline."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], cell: Callable[[object], str] | None = None
) -> str:
    """Aligned columns under a heading. On a terminal the heading stands out. `cell`: a value's text."""
    cells = [[(cell or _cell)(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [bool(rows) and isinstance(row, int) for row in (rows[0] if rows else columns)]
    lines = [_line(columns, widths, right), *(_line(row, widths, right) for row in cells)]
    if sys.stdout.isatty():
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    return "\n".join(lines)


def count(number: object) -> str:
    """1,254,402; a dash for None."""
    return f"{number:,}" if isinstance(number, int) else "-" if number is None else str(number)


def size(number: object) -> str:
    """41 GB; a dash for None. Decimal units, as disks are sold."""
    if not isinstance(number, int | float):
        return "-"
    value, unit = float(number), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if value >= 10 or unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """0.1 s, 19 s, 12 min, 3.5 h, 2.0 d."""
    for bound, unit, name in ((10, 1, "s"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < bound:
            digits = 1 if bound == 10 or name == "h" else 0
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86_400:.1f} d"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return count(value)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
    return "  ".join(padded).rstrip()
