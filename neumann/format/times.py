"""Moments for people: RFC 3339 in UTC, always with a Z. Time is held everywhere as ns since 1970."""

from __future__ import annotations

from datetime import UTC, datetime

NS_PER_S = 1_000_000_000


def time_text(time_ns: int, digits: int = 3) -> str:
    """`2024-01-15T10:29:59.981Z`; cut, not rounded, to that many digits (0, 3, 6 or 9).

    With 9 digits it is exact and names the moment to a recovery target.
    """
    assert time_ns >= 0 and digits in (0, 3, 6, 9)
    seconds, rest = divmod(time_ns, NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}"[: len(text) + (digits and digits + 1)] + "Z"
