"""`python -m tests.faults.frozen`: the leader's disk hangs, for as long as it takes until another one leads.

It prints a JSON object: who led, who leads then, the seconds until then, how many writes were acknowledged
before, in between and afterwards, and how many of all those are not there in the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

import neumann
from neumann.errors import NeumannError
from tests.faults.hosts import NODES, SMALL_DISK, Hosts
from tests.faults.world import Network, enter

_LIMIT_S = 30.0


async def freeze_the_leader(root: Path) -> dict[str, Any]:
    hosts = Hosts(Network(NODES), root)
    if SMALL_DISK in hosts.freezable or not hosts.freezable:
        return {"impossible": "this machine has no loop devices"}
    try:
        for node in NODES:
            hosts.start(node)
        await asyncio.to_thread(hosts.cluster.wait_serving)
        await asyncio.to_thread(hosts.cluster.wait_voters, len(NODES))
        while (leader := await asyncio.to_thread(hosts.leader)) not in hosts.freezable:
            await hosts.kill(leader or SMALL_DISK)
            hosts.start(leader or SMALL_DISK)
            await asyncio.to_thread(hosts.cluster.wait_serving)
        async with neumann.connect(hosts.cluster.contact, timeout_s=3.0) as db:
            return await _watch(hosts, leader, db)
    finally:
        hosts.close()


async def _watch(hosts: Hosts, leader: str, db: neumann.Client) -> dict[str, Any]:
    rows: dict[str, int] = {}
    over = False

    async def write() -> None:
        while not over:
            key = f"{len(rows)}"
            try:
                rows[key] = await db.put("t", key, key)
            except NeumannError:
                await asyncio.sleep(0.02)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.5)
    before = len(rows)
    began_s = time.monotonic()
    await hosts.freeze(leader)
    others = [hosts.member(node) for node in NODES if node != leader]
    then = leader
    while then in ("", leader) and time.monotonic() - began_s < _LIMIT_S:
        await asyncio.sleep(0.05)
        said = await asyncio.to_thread(others[0].status, 2.0)
        then = str(said.get("leader") or leader)
    took_s = time.monotonic() - began_s
    between = len(rows) - before
    await asyncio.sleep(1.0)
    afterwards = len(rows) - before - between
    hosts.thaw_all()
    over = True
    await writing
    found = {row.key: row.revision async for row in db.scan("t")}
    missing = [key for key, revision in rows.items() if found.get(key) != revision]
    return {
        "leader": leader,
        "then": then,
        "took_s": round(took_s, 2),
        "before": before,
        "between": between,
        "afterwards": afterwards,
        "missing": len(missing),
    }


def main() -> None:
    enter("tests.faults.frozen")
    with tempfile.TemporaryDirectory(prefix="neumann-frozen-") as root:
        json.dump(uvloop.run(freeze_the_leader(Path(root))), sys.stdout)


if __name__ == "__main__":
    main()
