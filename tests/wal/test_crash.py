"""Power failures at every change of the disk, and random schedules: what was acknowledged is there.

The rule: after a crash the log is a prefix of what was staged before it, or of what stood before the
truncation that was on its way, and holds everything acknowledged that no truncation took away.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from neumann.format.frame import Frame
from tests.sim.disk import SimCrash, SimDisk
from tests.wal.bench import Bench

Step = Callable[[Bench], None]


def append(kinds: str, term: int = 1, after: int | None = None) -> Step:
    return lambda bench: bench.append(kinds, term, after)


def mark(bench: Bench) -> None:
    bench.mark()


def drop(index: int) -> Step:
    return lambda bench: bench.drop(index)


SCRIPTS: dict[str, list[Step]] = {
    "appends": [append(".."), append("9"), mark, append("9999"), append(".m")],
    "seals": [append("..S"), append("."), mark, append("S.S3S"), append("."), mark, append("S")],
    "truncations": [
        append("..S3S.S."),
        mark,
        append(".", 2, after=7),
        append("..S", 3, after=3),
        append("..S.S", 4, after=2),
        mark,
        append("99", 5, after=4),
        append("..", 6, after=0),
    ],
    "drops": [append("..S..S..S.S."), mark, drop(6), append("S."), mark, drop(9), append(".", 2, after=11)],
    "beyond the segment's room": [append("9" * 8), append("9" * 8), mark, append("9" * 8)],
}


class Truth:
    """What may be found after a crash, kept current beside a run of steps."""

    def __init__(self) -> None:
        self.must: list[Frame] = []
        self.may: list[list[Frame]] = [[]]

    def before_step(self, bench: Bench) -> None:
        self.must, self.may = list(bench.acknowledged), [list(bench.staged)]

    def at_crash(self, bench: Bench) -> None:
        self.must = list(bench.acknowledged)
        self.may.append(list(bench.staged))

    def check(self, bench: Bench) -> None:
        """The frames that `bench` recovered, from where all of them were still held."""
        base = max(
            [bench.log.base.index, *(frames[0].header.first_index - 1 for frames in self.may if frames)]
        )
        found, must = behind(bench.staged, base), behind(self.must, base)
        assert bench.log.base.index <= bench.manifest_point.index
        assert found[: len(must)] == must, "an acknowledged frame is gone"
        assert any(found == behind(may, base)[: len(found)] for may in self.may), "frames never held together"


def behind(frames: list[Frame], index: int) -> list[Frame]:
    return [frame for frame in frames if frame.header.first_index > index]


def run_until_crash(script: list[Step], crash_at: int) -> tuple[Bench, Truth, bool]:
    disk = SimDisk()
    bench, truth = Bench(disk).create(), Truth()
    disk.crash_at = disk.operations + crash_at
    for step in script:
        truth.before_step(bench)
        try:
            step(bench)
        except SimCrash:
            truth.at_crash(bench)
            return bench, truth, True
    return bench, truth, False


def restarted(bench: Bench, disk: SimDisk) -> Bench:
    again = Bench(disk)
    again.manifest_point = bench.manifest_point
    return again


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crash_at_every_change_of_the_disk(name: str) -> None:
    """Bug 8: a step between writing, naming and syncing a segment was not thought of; so each is the last."""
    crash_at, crashed = 0, True
    while crashed:
        bench, truth, crashed = run_until_crash(SCRIPTS[name], crash_at)
        assert isinstance(bench.disk, SimDisk)
        if not crashed:
            truth.before_step(bench)
        for seed in range(6):
            image = bench.disk.fork()
            image.sector_bytes = 512 if seed % 2 else 8
            after = image.crash(Random(seed * 1000 + crash_at)) if seed else image.kill()
            again = restarted(bench, after)
            again.recover()
            truth.check(again)
            survived = list(again.staged)
            again.append(".S." if seed % 2 else "..", term=50)
            once_more = restarted(again, after.crash(Random(seed)))
            once_more.recover()
            assert once_more.staged[: len(survived)] == survived
            assert once_more.staged == again.staged
        crash_at += 1
    assert crash_at > 10


@pytest.mark.parametrize("name", ["seals", "truncations"])
def test_a_crash_at_every_change_of_a_recovery(name: str) -> None:
    """Recovery cuts, sets aside and creates; a crash in it must not lose what it was about to keep."""
    bench, truth, crashed = run_until_crash(SCRIPTS[name], 19)
    assert crashed and isinstance(bench.disk, SimDisk)
    for seed in range(10):
        image = bench.disk.fork().crash(Random(seed))
        at, crashed = 0, True
        while crashed:
            disk = image.fork()
            disk.crash_at = disk.operations + at
            again = restarted(bench, disk)
            try:
                again.recover()
                crashed = False
            except SimCrash:
                at += 1
            once_more = restarted(bench, disk.crash(Random(at)))
            once_more.recover()
            truth.check(once_more)


@pytest.mark.parametrize("seed", range(25))
def test_random_schedules(seed: int) -> None:
    """Bug 10: what a crash left was sometimes a log that could not be opened."""
    rng = Random(seed)
    disk = SimDisk()
    bench, truth = Bench(disk).create(), Truth()
    term = 1
    for _ in range(60):
        truth.before_step(bench)
        try:
            term = random_step(bench, rng, term)
        except SimCrash:
            truth.at_crash(bench)
            term += 10
            disk = disk.kill() if rng.random() < 0.3 else disk.crash(rng)
            bench = restarted(bench, disk)
            bench.recover()
            truth.check(bench)
            bench.mark()
        else:
            assert bench.held() == bench.staged
            assert [segment.name for segment in bench.log.segments()] == disk.list(bench.wal)
        disk.crash_at = disk.operations + rng.randrange(40) if rng.random() < 0.4 else None


def random_step(bench: Bench, rng: Random, term: int) -> int:
    log = bench.log
    choice = rng.random()
    if choice < 0.6:
        bench.append("".join(rng.choice("..39Sm") for _ in range(rng.randrange(1, 8))), term)
    elif choice < 0.8:
        ends = [log.base.index, *(frame.header.last_index for frame in bench.staged)]
        floor = bench.manifest_point.index
        term += 1
        bench.append(rng.choice([".", "..S", "9S3"]), term, after=rng.choice([e for e in ends if e >= floor]))
    elif choice < 0.9:
        bench.mark()
    else:
        sealed = [s.last_index for s in log.segments() if s.sealed]
        if sealed:
            bench.mark()
            bench.drop(max(bench.manifest_point.index, rng.choice(sealed)))
    return term
