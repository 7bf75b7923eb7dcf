"""`scripts/soak`: a cluster under real faults for as long as asked, and a verdict on what its clients saw."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from tests.faults.nemesis import KINDS
from tests.faults.soak import Goal, Report, soak
from tests.faults.world import enter, why_impossible

_FAILURES_SHOWN = 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Three servers in network namespaces under kills, partitions, pauses and a full disk, "
        "with clients whose history is recorded and judged. Ends after --minutes, or as soon as --kills and "
        "--partitions are reached. Root only. Exit code 0 if nothing was lost and all is linearizable.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="at most that long (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="keep the history (tests/history/record.py)"
    )
    parser.add_argument("--seed", type=int, help="which faults and operations; timing is the machine's")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="end after so many SIGKILLs")
    parser.add_argument("--partitions", type=int, default=0, metavar="N", help="and so many partitions")
    parser.add_argument(
        "--faults", nargs="+", choices=KINDS, default=KINDS, help="only these kinds of faults"
    )
    parser.add_argument("--keep", action="store_true", help="keep the servers' logs and data")
    return parser.parse_args()


async def _until_told(run: Coroutine[Any, Any, Report]) -> Report:
    """A `kill` ends the run, and its servers."""
    task = asyncio.create_task(run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> int:
    options = arguments()
    if why := why_impossible():
        print(f"scripts/soak: {why}", file=sys.stderr)
        return 2
    enter("tests.faults")
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="neumann-soak-"))
    try:
        goal = Goal(options.minutes * 60, options.kills, options.partitions, options.faults)
        report = uvloop.run(_until_told(soak(root, options.history or root / "history", seed, goal)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    finally:
        if options.keep:
            print(f"kept: {root}", file=sys.stderr)
        else:
            shutil.rmtree(root, ignore_errors=True)
    print(report)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    for text in report.failures[:_FAILURES_SHOWN]:
        print(f"FAILED {text}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
