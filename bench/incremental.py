"""Bytes that rsync moves for the next snapshot after 1 % of the rows changed, with `-aH` and with `-a`."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from pathlib import Path

import neumann
from bench.harness import filled
from bench.harness.load import require
from bench.harness.measured import Measured, Round, progress, tell
from bench.harness.stage import OURS, Stage
from tests.procedures.cluster import Cluster, Member

_ROWS, _ROWS_QUICK = 500_000, 50_000
_BATCH_ROWS = 100


def measure(stage: Stage) -> Measured:
    """One round: bytes do not depend on the minute."""
    require("rsync", "rsync")
    rows = _ROWS_QUICK if stage.quick else _ROWS
    progress(f"incremental: filling {rows:,} rows")
    root = stage.root / "incremental"
    cluster = Cluster(root, ("n1",))
    member = cluster["n1"]
    filled.fill_member(member.data, rows, member.id, member.address)
    with cluster:
        cluster.start("--bootstrap")
        _snapshot(member)
        first = {flags: _rsync(flags, member, root / flags) for flags in ("-aH", "-a")}
        asyncio.run(_change(cluster.contact, rows, rows // 100))
        _snapshot(member)
        following = {flags: _rsync(flags, member, root / flags) for flags in ("-aH", "-a")}
    ours = {
        "changed_user_bytes": float(rows // 100 * (len(filled.key(0)) + filled.VALUE_BYTES)),
        "first_bytes_aH": first["-aH"],
        "first_bytes_a": first["-a"],
        "next_bytes_aH": following["-aH"],
        "next_bytes_a": following["-a"],
    }
    one: Round = {OURS: ours}
    tell("incremental", 1, 1, one)
    meaning = "of the first copy's bytes moved by rsync -aH for the next one"
    return Measured(
        "incremental", meaning, (one,), lambda one: one[OURS]["next_bytes_aH"] / one[OURS]["first_bytes_aH"]
    )


def _snapshot(member: Member) -> None:
    answer = member.request("POST", "/admin/snapshot")
    assert answer.status == 200, answer


def _rsync(flags: str, member: Member, target: Path) -> float:
    """Bytes sent, by rsync's own statistics."""
    command = ["rsync", flags, "--stats", f"{member.data}/raft/snapshots/", f"{target}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (sent,) = re.findall(r"^Total bytes sent: ([\d,]+)$", said, re.MULTILINE)
    return float(sent.replace(",", ""))


async def _change(contact: str, rows: int, count: int) -> None:
    rng = random.Random(3)
    numbers = rng.sample(range(rows), count)
    async with neumann.connect(contact) as store:
        for start in range(0, count, _BATCH_ROWS):
            await store.batch(
                [
                    neumann.Put(filled.TABLE, filled.key(n), rng.randbytes(49).hex())
                    for n in numbers[start : start + _BATCH_ROWS]
                ]
            )
