"""A recorded history: the format of the file, and the operations that it tells of.

JSON lines, in the order in which they happened at the one process that records. Times are nanoseconds of
that process's monotonic clock. A revision is the index of the log entry that wrote a row.

    {"event": "begin", "format": 1, "seed": 7}          first line
    {"event": "invoke", "id": 5, "time_ns": ..., "client": "c1", "node": "n2", "op": "put",
     "key": "3/k4", "value": "c1-5"}                    a request leaves; op is one of KINDS;
                                                        "if_revision" with replace
    {"event": "ok", "id": 5, "time_ns": ..., "revision": 812}
                                                        a write took effect at that index; a get found that
                                                        revision and "value", or 0 and no value for no row
    {"event": "fail", "id": 5, "time_ns": ..., "reason": "condition", "revision": 812}
                                                        the condition did not hold at that index
    {"event": "fail", "id": 5, "time_ns": ..., "reason": "..."}
                                                        refused: has no effect, now or later
    {"event": "unknown", "id": 5, "time_ns": ..., "reason": "..."}
                                                        may take effect, at any time from its invocation on
    {"event": "fault", "time_ns": ..., "fault": "kill", "nodes": ["n1"], ...}
                                                        for readers; no judge looks at it

An operation that was invoked and has no end is unknown. Every value is written by one operation only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any

FORMAT = 1
NEVER_NS = 1 << 63
"""When an operation ends that was never answered."""

PUT = "put"
INSERT = "insert"  # a put if there is no row
REPLACE = "replace"  # a put if the row has revision `if_revision`
DELETE = "delete"
GET = "get"
KINDS = (PUT, INSERT, REPLACE, DELETE, GET)


class Outcome(StrEnum):
    """How an operation ended, as far as its client was told."""

    OK = "ok"
    CONDITION = "condition"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Operation:
    """One request. `value` is what a write writes, or what a get found ("" for no row); `revision` as in
    the module. An unknown one has no end."""

    id: int
    client: str
    node: str
    kind: str
    key: str
    invoked_ns: int
    value: str = ""
    if_revision: int = 0
    ended_ns: int = NEVER_NS
    outcome: Outcome = Outcome.UNKNOWN
    revision: int = 0

    def __str__(self) -> str:
        condition = f" if revision {self.if_revision}" if self.kind == REPLACE else ""
        told = f"{self.outcome} {self.revision}" if self.revision else self.outcome
        end = "" if self.ended_ns == NEVER_NS else f"{self.ended_ns / 1e9:.6f}"
        return (
            f"{self.id} {self.client} through {self.node}: {self.kind} {self.key} {self.value!r}{condition}"
            f" [{self.invoked_ns / 1e9:.6f}, {end}]: {told}"
        )


class Recorder:
    """Writes a history. `now_ns` is the clock; operations get their numbers here. `keys` were asked for,
    in that order."""

    def __init__(self, file: IO[str], seed: int) -> None:
        self.keys: dict[str, None] = {}
        self._file = file
        self._next_id = 1
        self._line({"event": "begin", "format": FORMAT, "seed": seed})

    def invoke(
        self, now_ns: int, client: str, node: str, kind: str, key: str, value: str = "", if_revision: int = 0
    ) -> int:
        """A request is about to leave; its number."""
        assert kind in KINDS
        number, self._next_id = self._next_id, self._next_id + 1
        self.keys[key] = None
        line = {"event": "invoke", "id": number, "time_ns": now_ns, "client": client, "node": node}
        line |= {"op": kind, "key": key}
        if value:
            line["value"] = value
        if kind == REPLACE:
            line["if_revision"] = if_revision
        self._line(line)
        return number

    def ok(self, number: int, now_ns: int, revision: int, value: str = "") -> None:
        """It was done, at `revision`; a get found it and `value`."""
        line: dict[str, Any] = {"event": "ok", "id": number, "time_ns": now_ns, "revision": revision}
        if value:
            line["value"] = value
        self._line(line)

    def condition_failed(self, number: int, now_ns: int, revision: int) -> None:
        """Its condition did not hold at that index."""
        line = {"event": "fail", "id": number, "time_ns": now_ns}
        self._line({**line, "reason": "condition", "revision": revision})

    def refused(self, number: int, now_ns: int, reason: str) -> None:
        """It was surely not done."""
        assert reason != "condition"
        self._line({"event": "fail", "id": number, "time_ns": now_ns, "reason": reason})

    def unknown(self, number: int, now_ns: int, reason: str) -> None:
        """Nobody knows."""
        self._line({"event": "unknown", "id": number, "time_ns": now_ns, "reason": reason})

    def fault(self, now_ns: int, fault: str, **what: object) -> None:
        """Something was broken or mended."""
        self._line({"event": "fault", "time_ns": now_ns, "fault": fault, **what})

    def _line(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(lines: Iterable[str]) -> list[Operation]:
    """The operations of a history, in the order of their invocation. ValueError for what is none."""
    found: dict[int, Operation] = {}
    for line in _events(lines):
        match line["event"]:
            case "invoke":
                value, if_revision = line.get("value", ""), line.get("if_revision", 0)
                found[line["id"]] = Operation(
                    line["id"],
                    line["client"],
                    line["node"],
                    line["op"],
                    line["key"],
                    line["time_ns"],
                    value,
                    if_revision,
                )
            case "ok" | "fail" | "unknown":
                _end(found[line["id"]], line)
    return list(found.values())


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    events = (json.loads(line) for line in lines)
    first: dict[str, Any] = next(events, {})
    if first.get("event") != "begin" or first.get("format") != FORMAT:
        raise ValueError(f"this is no history of format {FORMAT}: it begins with {first}")
    return events


def _end(operation: Operation, line: dict[str, Any]) -> None:
    if operation.outcome is not Outcome.UNKNOWN:
        raise ValueError(f"operation {operation.id} ends twice")
    if line["event"] == "unknown":
        return
    operation.ended_ns = line["time_ns"]
    operation.revision = line.get("revision", 0)
    if line["event"] == "ok":
        operation.outcome = Outcome.OK
        if operation.kind == GET:
            operation.value = line.get("value", "")
    else:
        operation.outcome = Outcome.CONDITION if line["reason"] == "condition" else Outcome.REFUSED
