"""A store inside a program: one node, on disk when `put` returns, no server and no port.

python docs/examples/embedded.py DIRECTORY
"""

import asyncio
import sys

import neumann


async def main(directory: str) -> None:
    async with neumann.open(directory) as db:
        await db.put("cities", "berlin", {"country": "DE", "population": 3_426_354})
        await db.put("cities", "bern", {"country": "CH", "population": 133_883})

        row = await db.get("cities", "berlin")
        assert row is not None
        print(f"{row.key}: {row.value['population']:,} people, written at revision {row.revision}")

        async for row in db.scan("cities", prefix="ber"):
            print(row.key)

        # All or nothing, at one index.
        await db.batch([neumann.Delete("cities", "bern"), neumann.Put("capitals", "CH", "bern")])

        snapshot = await db.snapshot()
        print(f"snapshot {snapshot['id']}: copy it from {directory}/raft/snapshots while this runs")


asyncio.run(main(sys.argv[1]))
