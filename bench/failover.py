"""Time until a write is accepted again after the leader is killed: 10 kills a round, default settings."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import neumann
from bench.harness.compare import Result
from bench.harness.etcd import Etcd
from bench.harness.load import Figures, Missing
from bench.harness.neumann import Neumann
from bench.harness.stage import OURS, THEIRS, Stage
from neumann.errors import NeumannError

KILLS_A_ROUND = 10
_SETTLE_S = (1.0, 2.0)  # until the next kill, at random: it comes at any moment between two heartbeats
_GIVE_UP_S = 30.0
_ASK_AGAIN_S = 0.25
_AGAIN_S = 0.01
_TABLE = "failover"


def measure(stage: Stage) -> Result:
    """Ours through the public Python client, as a user sees it. etcd through its JSON gateway, both survivors
    at once and again every quarter of a second: by itself it would hold a write back for seven seconds."""
    root = stage.root / "failover"
    with ExitStack() as running:
        sides: dict[str, Callable[[], float]] = {}
        if OURS in stage.sides:
            ours = running.enter_context(Neumann(stage, root / OURS))
            sides[OURS] = lambda: asyncio.run(_ours(ours))
        if THEIRS in stage.sides:
            try:
                theirs = running.enter_context(Etcd(stage, root / THEIRS))
                sides[THEIRS] = lambda: _theirs(theirs)
            except Missing as error:
                if not sides:
                    raise
                print(f"failover: ours alone: {error}", file=sys.stderr)
        times_ms: dict[str, list[float]] = {which: [] for which in sides}
        rounds: list[dict[str, Figures]] = []
        for _ in range(stage.rounds):
            rounds.append({})
            for which, kill in sides.items():
                seen = [kill() * 1000 for _ in range(KILLS_A_ROUND)]
                times_ms[which] += seen
                rounds[-1][which] = _figures(seen)
    for which, seen in times_ms.items():
        print(f"failover: {_told(which, seen)}", file=sys.stderr, flush=True)
    return Result("failover", "p50_ms", Etcd.name, tuple(rounds))


def _figures(times_ms: list[float]) -> Figures:
    """`rate`: kills that a second of unavailability was the price of."""
    cuts = statistics.quantiles(times_ms, n=100, method="inclusive")
    return Figures(1000 / statistics.mean(times_ms), statistics.median(times_ms), cuts[98], max(times_ms))


def _told(which: str, times_ms: list[float]) -> str:
    p90 = statistics.quantiles(times_ms, n=10, method="inclusive")[8]
    return (
        f"{which}: {len(times_ms)} kills of the leader, a write was accepted again after "
        f"{statistics.median(times_ms):.0f} ms in the median, p90 {p90:.0f}, max {max(times_ms):.0f} ms"
    )


async def _ours(side: Neumann) -> float:
    """Seconds from SIGKILL to the answer of the first write that was begun behind it."""
    async with neumann.connect(side.contact) as db:
        await db.put(_TABLE, "row", 0)
        leader = side.leader()
        await asyncio.sleep(random.uniform(*_SETTLE_S))
        await db.put(_TABLE, "row", 1)
        began_s = time.monotonic()
        side.kill(leader)
        while True:
            try:
                await db.put(_TABLE, "row", 2)
                break
            except NeumannError:
                if time.monotonic() - began_s > _GIVE_UP_S:
                    raise
        took_s = time.monotonic() - began_s
    side.start(leader)
    return took_s


def _theirs(side: Etcd) -> float:
    leader = side.leader_number()
    survivors = [port for number, port in enumerate(side.client_ports) if number != leader]
    time.sleep(random.uniform(*_SETTLE_S))
    accepted_s: list[float] = []
    began_s = time.monotonic()
    side.kill(leader)

    def ask(port: int) -> None:
        while not accepted_s and time.monotonic() - began_s < _GIVE_UP_S:
            if _etcd_puts(port):
                accepted_s.append(time.monotonic() - began_s)
            else:
                time.sleep(_AGAIN_S)

    threads = [threading.Thread(target=ask, args=(port,)) for port in survivors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not accepted_s:
        raise TimeoutError("etcd took no write after its leader was killed")
    side.start(leader)
    return min(accepted_s)


def _etcd_puts(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_AGAIN_S)
    try:
        connection.request("POST", "/v3/kv/put", json.dumps({"key": "cm93", "value": "Mg=="}))
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200
