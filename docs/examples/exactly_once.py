"""A transfer that happens once, whatever happens to the connection, the cluster or this program.

The client's session takes care of a connection that breaks and of a leader that changes: it sends the
batch again, and it is done once. It can't outlive the program, nor its timeout: so a receipt goes into the
same batch. Asked again with the same name, the batch is refused if it was done before.

python docs/examples/exactly_once.py HOST:PORT,HOST:PORT,HOST:PORT
"""

import asyncio
import sys

import neumann
from neumann import Put
from neumann.errors import ConditionFailed, OutcomeUnknown, Unavailable


async def transfer(db: neumann.Store, name: str, source: str, target: str, amount: int) -> bool:
    """Move `amount` under this name; False if that had been done before."""
    while True:
        if await db.get("receipts", name):
            return False
        a, b = await db.get("accounts", source), await db.get("accounts", target)
        assert a is not None and b is not None
        try:
            await db.batch(
                [
                    Put("receipts", name, amount, if_absent=True),
                    Put("accounts", source, a.value - amount, if_revision=a.revision),
                    Put("accounts", target, b.value + amount, if_revision=b.revision),
                ]
            )
            return True
        except (ConditionFailed, OutcomeUnknown, Unavailable) as error:
            print(f"again: {error}")  # the receipt decides


async def main(addresses: str) -> None:
    async with neumann.connect(addresses) as db:
        await db.batch([Put("accounts", "ann", 100), Put("accounts", "bob", 0)])
        await db.delete("receipts", "rent-2024-01")
        print("done now:", await transfer(db, "rent-2024-01", "ann", "bob", 40))
        print("done now:", await transfer(db, "rent-2024-01", "ann", "bob", 40))
        print([(row.key, row.value) async for row in db.scan("accounts")])


asyncio.run(main(sys.argv[1]))
