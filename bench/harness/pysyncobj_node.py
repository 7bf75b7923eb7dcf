"""One node of PySyncObj with a dict in it:  python -m bench.harness.pysyncobj_node SELF OTHER OTHER

It has no protocol for clients: a program has the node in its own process. So the load comes from within
the leader, with no client's connection to pay for. One line of JSON on standard input is one order; `{}`
asks whether it leads; a load is a closed loop of `outstanding` puts, answered with the load generator's
figures. Everything stays in memory: it syncs nothing to disk, its journal neither.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

_TICK_S = 0.001
_SETTINGS = {
    "autoTick": False,
    # The best of those tried: five times the rate of the default 0.1, twice that of 0.001.
    "appendEntriesPeriod": 0.01,
    # A busy loop must not cost it the lead.
    "raftMinTimeout": 1.5,
    "raftMaxTimeout": 3.0,
}
_IDLE_S = 0.005


class Store(SyncObj):  # type: ignore[misc]
    """Rows in a dict on every node."""

    def __init__(self, own: str, others: list[str]) -> None:
        super().__init__(own, others, SyncObjConf(**_SETTINGS))
        self._rows: dict[str, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: bytes) -> None:
        self._rows[key] = value

    def leads(self) -> bool:
        return bool(self.isReady() and self._isLeader())


class Round:
    """One load on the store, in the node's own loop."""

    def __init__(self, store: Store, order: dict[str, Any]) -> None:
        self._store = store
        self._random = random.Random(order["seed"])
        self._keys = [f"key-{number:08d}" for number in range(order["keys"])]
        self._value = b"v" * order["value_bytes"]
        self._unwritten = list(self._keys) if order["kind"] == "fill" else None
        self._from_s = time.perf_counter() + order["warmup_s"]
        self._until_s = self._from_s + order["seconds"]
        self._seconds = order["seconds"] or 1.0
        self._latencies_ms: list[float] = []
        self._failures: list[str] = []
        self._in_flight = 0
        for _ in range(order["outstanding"]):
            self._send()

    def _send(self) -> None:
        now_s = time.perf_counter()
        if self._unwritten is not None:
            if not self._unwritten:
                return
            key = self._unwritten.pop()
        elif now_s >= self._until_s:
            return
        else:
            key = self._random.choice(self._keys)
        self._in_flight += 1
        self._store.put(key, self._value, callback=lambda _, reason: self._answered(now_s, reason))

    def _answered(self, sent_s: float, reason: int) -> None:
        now_s = time.perf_counter()
        self._in_flight -= 1
        if reason != FAIL_REASON.SUCCESS:
            self._failures.append(f"PySyncObj's reason {reason}")
        elif self._unwritten is not None or self._from_s <= now_s < self._until_s:
            self._latencies_ms.append((now_s - sent_s) * 1000)
        self._send()

    def run(self) -> dict[str, Any]:
        """Until the last answer; the load generator's figures."""
        while self._in_flight:
            self._store.doTick(_TICK_S)
        seen = sorted(self._latencies_ms)

        def quantile(q: float) -> float:
            return seen[int(q * (len(seen) - 1))] if seen else 0.0

        return {
            "operations": len(seen),
            "rate": len(seen) / self._seconds,
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
            "errors": len(self._failures),
            "error": self._failures[0] if self._failures else "",
        }


def main() -> int:
    store = Store(sys.argv[1], sys.argv[2:])
    while True:
        store.doTick(_IDLE_S)
        if not select.select([sys.stdin], [], [], 0)[0]:
            continue
        line = sys.stdin.readline()
        if not line:
            return 0
        order = json.loads(line)
        answer = Round(store, order).run() if order else {"leads": store.leads()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
