"""The same store without asyncio, shared by threads.

python docs/examples/without_asyncio.py DIRECTORY
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import neumann.sync

with neumann.sync.open(sys.argv[1]) as db:

    def measure(sensor: int) -> int:
        return db.put("readings", f"sensor-{sensor:02}", {"celsius": 20 + sensor})

    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(measure, range(16)))
    print(f"{len(revisions)} writes, the last one at revision {max(revisions)}")

    warm = [row.key for row in db.scan("readings", start="sensor-08") if row.value["celsius"] > 33]
    print("warm:", ", ".join(warm))
