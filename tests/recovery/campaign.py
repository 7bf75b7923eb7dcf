"""Point-in-time recovery against the truth, as long as asked: scripts/pitr, and a slice in the tests.

Each seed makes a family of clusters over one archive (branches.py), asks random targets of the real
planner, carries the restore out, and compares row by row, or the exit code of the refusal. A refused target
must have made nothing. Every bound that wal-list prints must be accepted, and one index beyond be exit 3
(R14). A wrong answer names the seed that repeats it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from neumann.archive.sources import Source
from neumann.env.disk import RealDisk
from neumann.errors import NeumannError
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import restore
from neumann.recovery.survey import survey
from neumann.recovery.targets import Kind, Target, parse_target
from tests.recovery.branches import BEYOND, Branches, Line
from tests.recovery.world import make_env, rows_in

TARGETS_A_SEED = 20
DISK = RealDisk()


class WrongAnswer(AssertionError):
    """The product answered a target with other rows, or another exit code, than is right."""


def run_seed(seed: int, base: str, targets: int = TARGETS_A_SEED) -> Counter[str]:
    """One family, `targets` questions; what was counted. WrongAnswer names the question."""
    counted: Counter[str] = Counter()
    world = Branches(DISK, base, seed)
    for number in range(world.random.randrange(5)):
        _fork(world, f"{base}/child-{number}", counted)
    if world.random.random() < 0.4 and world.retain():
        counted["retentions"] += 1
    for _ in range(targets):
        _ask(world, *world.question(), counted)
    for line in world.leaves() + world.written_on():
        _check_windows(world, line, counted)
    return counted


def _carry_out(request: Request) -> None:
    env = make_env(DISK)
    asyncio.run(restore(env, plan_restore(env, request)))


def _fork(world: Branches, root: str, counted: Counter[str]) -> None:
    parent, index = world.fork_point()
    _carry_out(world.request(Target(Kind.INDEX, f"index {index}", index=index), parent.name, root))
    rows = rows_in(DISK, root)
    _require(rows == parent.cluster.rows_at(index), f"index {index} on {parent.name}: other rows", counted)
    world.went_on(parent, index, root, rows)
    counted["restores"] += 1
    if world.random.random() < 0.4:
        world.the_left_goes_on()
        counted["lines that go on"] += 1


def _ask(world: Branches, target: Target, timeline: str, counted: Counter[str]) -> None:
    expected = world.expected(target, timeline)
    what = f"{target.text}{' exclusive' * target.exclusive} on {timeline or 'any line'}"
    to = f"{world.base}/asked"
    counted["targets"] += 1
    try:
        _carry_out(world.request(target, timeline, to))
    except NeumannError as error:
        counted[f"exit {error.exit_code}"] += 1
        told = f"{what}: exit {error.exit_code} ({error}), and {expected.exit_code} is right"
        _require(error.exit_code == expected.exit_code, told, counted)
        _require(not Path(to).exists(), f"{what}: a refused restore left {to}", counted)
        return
    counted["reached"] += 1
    _require(expected.exit_code == 0, f"{what}: reached, and exit {expected.exit_code} is right", counted)
    _require(rows_in(DISK, to) == expected.rows, f"{what}: other rows than were there", counted)
    shutil.rmtree(to)


def _check_windows(world: Branches, line: Line, counted: Counter[str]) -> None:
    """R14: what is printed as possible is what the next command accepts."""
    found = survey(DISK, Source(world.archive, world.backup)).recoverable[line.name]
    _require(bool(found), f"no window of {line.name}", counted)
    for window in found:
        for index in (window.first_index, window.last_index):
            _require(_plan(world, parse_target(until_index=index), line) == 0, f"{window}: {index}", counted)
        begin, _, end = str(window).partition(" (")[0].partition(" .. ")
        for text in {begin, end} - {"the beginning"}:
            _require(_plan(world, parse_target(until=text), line) == 0, f"{window}: {text}", counted)
    beyond = parse_target(until_index=found[-1].last_index + 1)
    _require(_plan(world, beyond, line) == BEYOND, f"{found[-1]}: one index beyond", counted)
    counted["windows"] += len(found)


def _plan(world: Branches, target: Target, line: Line) -> int:
    try:
        plan_restore(make_env(DISK), world.request(target, line.name, f"{world.base}/planned"))
    except NeumannError as error:
        return error.exit_code
    return 0


def _require(holds: bool, what: str, counted: Counter[str]) -> None:
    if not holds:
        raise WrongAnswer(f"{what} (after {dict(counted)})")


def main() -> int:
    """scripts/pitr."""
    parser = argparse.ArgumentParser(prog="scripts/pitr", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=2000, help="how many recovery targets (default 2000)")
    parser.add_argument("--seed", type=int, help="begin with this one (default: a fresh one)")
    parser.add_argument("--minutes", type=float, help="end then, if the targets have not")
    parser.add_argument("--json", metavar="FILE", help="write the counts there")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(1 << 32)
    began_s, total, failed, seeds = time.monotonic(), Counter[str](), 0, 0
    print(f"first seed {seed}", flush=True)
    while total["targets"] < given.targets:
        if given.minutes and time.monotonic() - began_s > given.minutes * 60:
            break
        with tempfile.TemporaryDirectory(prefix="neumann-pitr-") as base:
            try:
                total += run_seed(seed, base, min(TARGETS_A_SEED, given.targets - total["targets"]))
            except (WrongAnswer, NeumannError) as error:
                failed += 1
                total["targets"] += 1
                print(f"FAILED seed {seed}: {error}\nrepeat it with: scripts/pitr --targets 20 --seed {seed}")
        seed, seeds = seed + 1, seeds + 1
    seconds = time.monotonic() - began_s
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(total.items()))
    print(f"{seeds} seeds in {seconds:.0f} s, {failed} failed: {told}")
    if given.json:
        Path(given.json).write_text(json.dumps({"seeds": seeds, "failed": failed, **total}, indent=2))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
