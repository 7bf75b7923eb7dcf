"""One run: form a cluster, break it under load, mend it, look at every key, and judge the history.

It has failed if an acknowledged write is lost, a key's history is not linearizable, replicas differ in the
end, the cluster does not serve again once all is mended, a server ended by itself, or a client was told
something that no client may be told.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from neumann.env.net import RealNet
from neumann.errors import NeumannError
from neumann.format import command
from tests.faults.clients import TABLES, Tally, make_clients
from tests.faults.hosts import NODES, Hosts
from tests.faults.nemesis import FROZEN_DISK, FULL_DISK, KILL, KINDS, PARTITION, PAUSE, WIPE, Nemesis
from tests.faults.world import Network
from tests.history.judge import judge
from tests.history.record import GET, Recorder, read

CALM_S = 1.0
RECOVERY_LIMIT_S = 60.0
_PAGE_ROWS = 1000

_Rows = dict[str, tuple[Any, int]]
"""table/key -> (value, revision)."""


@dataclass(slots=True)
class Goal:
    """When a run ends: after that many seconds, or sooner where so many faults were asked for and done; and
    which kinds of faults there are."""

    seconds: float
    kills: int = 0
    partitions: int = 0
    kinds: Collection[str] = KINDS

    def until(self, began_s: float) -> Callable[[Counter[str]], bool]:
        """Whether these counts are enough, or the time is over."""
        asked = bool(self.kills or self.partitions)

        def is_over(counts: Counter[str]) -> bool:
            done = counts[KILL] >= self.kills and counts[PARTITION] >= self.partitions
            return (asked and done) or time.monotonic() - began_s >= self.seconds

        return is_over


@dataclass(slots=True)
class Report:
    """What a run was, and what was found. `failures` is empty for a run that passed."""

    seed: int
    seconds: float = 0.0
    kills: int = 0
    partitions: int = 0
    pauses: int = 0
    full_disks: int = 0
    frozen_disks: int = 0
    wipes: int = 0
    operations: int = 0
    acknowledged: int = 0
    condition_failed: int = 0
    refused: int = 0
    unknown: int = 0
    gets: int = 0
    keys: int = 0
    leader_terms: int = 0
    lost_writes: int = 0
    non_linearizable_keys: int = 0
    longest_unavailability_s: float = 0.0
    recovery_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        numbers = {name: value for name, value in asdict(self).items() if name != "failures"}
        return ", ".join(f"{name} {value}" for name, value in numbers.items())


class ConvergeFailed(Exception):
    """The cluster did not serve, or replicas stayed different, although all is mended."""


async def soak(root: Path, history: Path, seed: int, goal: Goal) -> Report:
    """A run with its servers below `root`. The history is written to that file while it runs."""
    random = Random(seed)
    report = Report(seed)
    hosts = Hosts(Network(NODES), root)
    tally = Tally()
    try:
        with history.open("w") as file:
            recorder = Recorder(file, seed)
            for node in NODES:
                hosts.start(node)
            await asyncio.to_thread(hosts.cluster.wait_serving)
            await asyncio.to_thread(hosts.cluster.wait_voters, len(NODES))
            tally = Tally()
            await _break(hosts, random, recorder, tally, goal, report)
            try:
                await _look(hosts, recorder, report)
            except (ConvergeFailed, NeumannError) as error:
                report.failures.append(f"after all was mended: {error}")
    finally:
        hosts.close()
    report.failures += hosts.ended
    report.failures += [f"a client was told: {text}" for text in tally.surprises]
    report.longest_unavailability_s = round(tally.longest_gap_ns / 1e9, 3)
    _judge(history, report)
    return report


async def _break(
    hosts: Hosts, random: Random, recorder: Recorder, tally: Tally, goal: Goal, report: Report
) -> None:
    """Clients and faults; at the end all is mended and writes are accepted again."""
    began_s = time.monotonic()
    addresses = {member.id: member.address for member in hosts.cluster.members}
    clients = make_clients(addresses, Random(random.getrandbits(64)), recorder, tally)
    over = asyncio.Event()
    nemesis = Nemesis(hosts, random, recorder, goal.until(began_s), lambda: tally.acknowledged, goal.kinds)
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(over.is_set))
        await asyncio.sleep(CALM_S)
        await nemesis.run()
        hosts.mend_all()
        mended_ns, before = time.monotonic_ns(), tally.acknowledged
        recorder.fault(mended_ns, "all mended")
        while tally.acknowledged < before + 100:
            if time.monotonic_ns() - mended_ns > RECOVERY_LIMIT_S * 1e9:
                report.failures.append(f"no writes within {RECOVERY_LIMIT_S:g} s after all was mended")
                break
            await asyncio.sleep(0.05)
        report.recovery_s = round((time.monotonic_ns() - mended_ns) / 1e9, 3)
        over.set()
    report.seconds = round(time.monotonic() - began_s, 1)
    counts = nemesis.counts
    report.kills, report.partitions = counts[KILL], counts[PARTITION]
    report.pauses, report.full_disks = counts[PAUSE], counts[FULL_DISK]
    report.frozen_disks, report.wipes = counts[FROZEN_DISK], counts[WIPE]


async def _look(hosts: Hosts, recorder: Recorder, report: Report) -> None:
    """Every row, read linearizably, into the history; and all replicas' rows, which must be the same."""
    net = RealNet()
    deadline_s = time.monotonic() + RECOVERY_LIMIT_S
    try:
        while not await asyncio.to_thread(hosts.all_vote):
            if time.monotonic() > deadline_s:
                raise ConvergeFailed("not every machine is a voter with the disk that it has")
            await asyncio.sleep(0.2)
        began_ns = time.monotonic_ns()
        rows = await _rows(net, hosts.member(NODES[0]).address, stale=False)
        _record(recorder, began_ns, rows)
        for member in hosts.cluster.members:
            while (theirs := await _rows(net, member.address, stale=True)) != rows:
                if time.monotonic() > deadline_s:
                    differ = sorted(
                        key for key in rows.keys() | theirs.keys() if rows.get(key) != theirs.get(key)
                    )
                    raise ConvergeFailed(f"{member.id} differs in {len(differ)} rows: {differ[:5]}")
                await asyncio.sleep(0.5)
        status = hosts.member(NODES[0]).status()
        report.leader_terms = int(status.get("term", 0))
    finally:
        await net.close()


async def _rows(net: RealNet, address: str, *, stale: bool) -> _Rows:
    """All rows that clients wrote; nobody writes meanwhile."""
    rows: _Rows = {}
    for table in TABLES:
        start = ""
        while True:
            page, cursor = await net.call(
                address, "scan", [table, start, "", "", _PAGE_ROWS, False, stale], 10.0
            )
            for key, packed, revision, _ in page:
                rows[f"{table}/{key}"] = (command.unpack_value(packed)[0], revision)
            if not cursor:
                break
            start = cursor
    return rows


def _record(recorder: Recorder, began_ns: int, rows: _Rows) -> None:
    """The last look: a get of every key that was asked for, or that is there all the same."""
    ended_ns = time.monotonic_ns()
    for key in [*recorder.keys, *sorted(rows.keys() - recorder.keys.keys())]:
        number = recorder.invoke(began_ns, "last", NODES[0], GET, key)
        value, revision = rows.get(key, ("", 0))
        recorder.ok(number, ended_ns, revision, value)


def _judge(history: Path, report: Report) -> None:
    with history.open() as file:
        operations = read(file)
    verdict = judge(operations)
    report.operations = len(operations)
    report.keys = len({one.key for one in operations})
    report.acknowledged, report.gets = verdict.acknowledged, verdict.gets
    report.condition_failed, report.refused = verdict.condition_failed, verdict.refused
    report.unknown = verdict.unknown
    report.lost_writes = len(verdict.lost)
    report.non_linearizable_keys = len(verdict.non_linearizable)
    report.failures += [f"lost: {text}" for text in verdict.lost]
    report.failures += [f"not linearizable: {key}: {text}" for key, text in verdict.non_linearizable.items()]
    report.failures += [f"not one log: {text}" for text in verdict.disorder]
