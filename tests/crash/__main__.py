"""Every beginning of the runs: a node is restarted behind each change of its disk.  scripts/crashes

`--every N` tries each N-th beginning only, `--seed` draws other samples and other runs. `--full`: instead,
the disk is full at each point that needs room, once and for a while. Prints the counts; exit 1 with the
place if something was missing, or a node did not go on by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.crash.enumerate import Bounds, Tally, go_through
from tests.crash.full import is_in_place, points, run_into
from tests.crash.runs import RUNS, witness

OF_STARTS = {"subsets": 16, "torn": 2, "again": 20}
"""The options of the restarts, with what they are by default."""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/crashes", description=__doc__)
    parser.add_argument("--run", choices=[*RUNS], action="append", help="only this one (all)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th beginning (1)")
    parser.add_argument("--subsets", type=int, metavar="N", help="at most, of each beginning (16)")
    parser.add_argument("--torn", type=int, metavar="N", help="with torn writes, of each (2)")
    parser.add_argument("--again", type=int, metavar="N", help="each N-th start is crashed too (20)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which run, which samples (1)")
    parser.add_argument("--full", action="store_true", help="a full disk at each point instead")
    given = parser.parse_args()
    asked = {name: value for name in OF_STARTS if (value := getattr(given, name)) is not None}
    if given.full and asked:
        parser.error(f"--full restarts nothing: --{' and --'.join(asked)} say nothing there")
    bounds = Bounds(**OF_STARTS | asked, every=given.every)
    for name in given.run or RUNS:
        if given.full:
            if not full(name, given.every, given.seed):
                return 1
            continue
        seen, tally, began_s = witness(name, given.seed), Tally(), time.process_time()
        try:
            go_through(seen, bounds, tally, given.seed)
        except Exception as error:
            print(f"{name}: FAILED {'; '.join(error.__notes__)}: {error!r}")
            return 1
        kinds = ", ".join(f"{count} {what}" for what, count in seen.kinds().items())
        print(f"{name}: {len(seen.changes)} changes of the disk ({kinds})")
        print(f"{name}: {tally}: nothing missing; {time.process_time() - began_s:.0f} s of CPU")
    return 0


def full(name: str, every: int, seed: int) -> bool:
    """No room at each point of that run; whether all went well."""
    began_s, outcomes = time.process_time(), Counter[str]()
    chosen = [*points(name, seed), *points(name, seed, in_place=True)][::every]
    for point in chosen:
        try:
            outcomes.update(run_into(name, point, seed).outcomes.keys())
        except Exception as error:
            print(f"{name}: FAILED {'; '.join(error.__notes__)}: {error!r}")
            return False
    told = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    in_place = sum(is_in_place(point.change) for point in chosen)
    seconds = time.process_time() - began_s
    print(f"{name}: {len(chosen)} runs into a full disk, {in_place} in place: nothing lost, all went on")
    print(f"{name}: runs with: {told or 'no word to anybody'}; {seconds:.0f} s of CPU")
    return True


if __name__ == "__main__":
    sys.exit(main())
