"""`python -m bench.harness.random_puts SIDE DIRECTORY PUTS`: random puts alone in a process, and their cost.

SIDE is `ours`, an embedded node that syncs each batch of what queued, or a name of peers.KINDS, whose
log is not synced. Bytes are those that the process and its helpers gave to the block layer, as Linux counts
them in /proc/<pid>/io.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from bench.harness import filled, peers
from bench.harness.stage import OURS
from neumann.embedded import EmbeddedStore
from neumann.format import command

_IN_FLIGHT = 512
_CACHE_BYTES = 64 * 1024 * 1024


def main() -> None:
    side, directory, puts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    begin = time.perf_counter()
    written = asyncio.run(_ours(directory, puts)) if side == OURS else _theirs(side, directory, puts)
    user_bytes = puts * (len(filled.key(0)) + filled.VALUE_BYTES)
    seconds = time.perf_counter() - begin
    print(json.dumps({"write_amplification": written / user_bytes, "puts_per_s": puts / seconds}))


async def _ours(directory: Path, puts: int) -> int:
    rng = random.Random(1)
    async with EmbeddedStore(str(directory)) as store:
        left = iter(range(puts))

        async def write() -> None:
            for _ in left:
                number = rng.randrange(puts // 2)
                await store.write(command.encode_put(filled.TABLE, filled.key(number), filled.value(rng)))

        await asyncio.gather(*(write() for _ in range(_IN_FLIGHT)))
        member = store.node.member
        while member is not None and member.checkpointer.is_busy:
            await asyncio.sleep(0.1)
        return _written_bytes()


def _theirs(side: str, directory: Path, puts: int) -> int:
    rng = random.Random(1)
    store = peers.KINDS[side](directory, _CACHE_BYTES)
    store.put_all((filled.key(rng.randrange(puts // 2)).encode(), filled.value(rng)) for _ in range(puts))
    store.close()
    os.sync()
    return _written_bytes()


def _written_bytes() -> int:
    """Of this process and its children, helpers of a node."""
    children = Path("/proc/self/task").glob("*/children")
    pids = ["self", *(pid for file in children for pid in file.read_text().split())]
    total = 0
    for pid in pids:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        total += int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])
    return total


if __name__ == "__main__":
    main()
