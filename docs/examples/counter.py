"""Many writers, one row, nothing lost: write only if the row is still the one that was read.

python docs/examples/counter.py HOST:PORT,HOST:PORT,HOST:PORT
"""

import asyncio
import sys

import neumann
from neumann.errors import ConditionFailed


async def increment(db: neumann.Store, key: str) -> int:
    """Add one; the new value. Again from the start when somebody else was first."""
    while True:
        row = await db.get("counters", key)
        try:
            if row is None:
                await db.put("counters", key, 1, if_absent=True)
                return 1
            await db.put("counters", key, row.value + 1, if_revision=row.revision)
            return int(row.value) + 1
        except ConditionFailed:
            continue


async def main(addresses: str) -> None:
    async with neumann.connect(addresses) as db:
        await db.delete("counters", "visits")
        values = await asyncio.gather(*(increment(db, "visits") for _ in range(20)))
        print("every value once:", sorted(values) == list(range(1, 21)))


asyncio.run(main(sys.argv[1]))
