"""Recovery targets, times and durations as people write them. PURE.

A time needs a zone: `Z` or an offset (RFC 3339). Up to nine digits of a second are taken.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from neumann.errors import BadInput
from neumann.format.times import NS_PER_S

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-]\d{2}:\d{2}))?"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LATEST = "latest"


class Kind(Enum):
    """What a target names."""

    TIME = "time"
    INDEX = "index"
    NAME = "name"
    LATEST = "latest"


class Target(NamedTuple):
    """Where to recover to. `text` is as the person wrote it; `time_ns`, `index`, `name` by kind.

    A time is inclusive: everything up to and including the frame of that very time. `exclusive` stops
    before the frame, entry or restore point that the target names.
    """

    kind: Kind
    text: str
    time_ns: int = 0
    index: int = 0  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    name: str = ""
    exclusive: bool = False


def parse_target(
    until: str | None = None,
    until_index: int | None = None,
    until_name: str | None = None,
    exclusive: bool = False,
) -> Target:
    """From the flags; exactly one of the three is given, else BadInput."""
    if [until, until_index, until_name].count(None) != 2:
        raise BadInput(
            "name one recovery target",
            remedy="--until 2024-01-15T10:30:00Z, --until latest, --until-index N or --until-name NAME",
        )
    if until_index is not None:
        if until_index < 0:
            raise BadInput(f"--until-index {until_index}: an index is 0 or more")
        return Target(Kind.INDEX, f"index {until_index}", index=until_index, exclusive=exclusive)
    if until_name is not None:
        return Target(Kind.NAME, f"restore point {until_name!r}", name=until_name, exclusive=exclusive)
    assert until is not None
    if until == LATEST:
        if exclusive:
            raise BadInput("--exclusive needs a target that names one moment; latest does not")
        return Target(Kind.LATEST, LATEST)
    return Target(Kind.TIME, until, time_ns=parse_time(until), exclusive=exclusive)


def parse_time(text: str) -> int:
    """Nanoseconds since 1970, UTC; BadInput shows the right form."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"{text!r} is no time", remedy="write it like 2024-01-15T10:30:00Z")
    day, clock, fraction, zulu, offset = match.groups()
    if zulu is None and offset is None:
        raise BadInput(
            f"{text!r} has no time zone, so it names no moment",
            remedy=f"write {day}T{clock}Z for UTC, or an offset such as {day}T{clock}+01:00",
        )
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset or '+00:00'}")
    except ValueError as error:
        raise BadInput(
            f"{text!r} is no time: {error}", remedy="write it like 2024-01-15T10:30:00Z"
        ) from error
    seconds = int(whole.timestamp())
    if seconds < 0:
        raise BadInput(f"{text!r} is before 1970")
    return seconds * NS_PER_S + int((fraction or "0").ljust(9, "0"))


def parse_duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `1.5h`; BadInput for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is not None:
        return float(match[1]) * _UNIT_S[match[2]]
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e12:
        raise BadInput(f"{text!r} is no duration", remedy="write it like 30s, 10m or 2h")
    return seconds
