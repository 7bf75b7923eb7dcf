"""scripts/sim: many seeds, one after the other or several at once, and what they were together.

A seed's report, and the totals, depend on the seeds alone: not on the machine, not on the number of jobs.
Times are told apart from them. A failing seed prints the line that repeats it, and the exit code is 1.

Seeds are told in their order. After SIGTERM, as after --minutes, no further seed begins: those under way
end, and the totals are those of all seeds up to the last one told. Meanwhile the file of totals is whole
at each moment, and at most WRITE_EVERY seeds old.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple, Self

from tests.sim import scenario
from tests.sim.faults import KINDS
from tests.sim.scenario import Report

WRITE_EVERY = 20


class Outcome(NamedTuple):
    """How one seed ended; `failure` is "" where it passed. `cpu_s` was spent on it."""

    seed: int
    report: Report | None
    failure: str
    cpu_s: float


def run_one(seed: int, kinds: tuple[str, ...], keep_trace: bool) -> Outcome:
    """One seed, in whatever process."""
    began_s = time.process_time()
    report, failure = None, ""
    try:
        report = scenario.run(seed, kinds, keep_trace=keep_trace)
    except Exception as error:
        said = f"FAILED seed {seed}: {type(error).__name__}: {error}"
        failure = "\n".join([said, *getattr(error, "__notes__", ())])
    return Outcome(seed, report, failure, time.process_time() - began_s)


class Summary:
    """All seeds together."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self.passed: list[int] = []
        self.failed: list[int] = []
        self.steps = 0
        self.operations = 0
        self.virtual_s = 0.0
        self.cpu_s = 0.0
        self._passed_cpu_s = 0.0
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.cpu_s += outcome.cpu_s
        report = outcome.report
        if report is None:
            self.failed.append(outcome.seed)
            return
        self.passed.append(outcome.seed)
        self._passed_cpu_s += outcome.cpu_s
        self.steps += report.steps
        self.operations += report.operations
        self.virtual_s += report.virtual_s
        self.counts.update(report.counts)
        self.kinds.update(report.kinds)

    @property
    def never(self) -> list[str]:
        """What a report counts and no seed had."""
        return [name for name in self.counts if not self.counts[name]]

    def facts(self) -> dict[str, object]:
        """For JSON; `measured` is the only part that another machine would tell otherwise."""
        return {
            "seeds": len(self.passed) + len(self.failed),
            "first_seed": min([*self.passed, *self.failed], default=None),
            "last_seed": max([*self.passed, *self.failed], default=None),
            "failed": sorted(self.failed),
            "operations": self.operations,
            "events": self.steps,
            "virtual_s": round(self.virtual_s, 3),
            "counts": dict(sorted(self.counts.items())),
            "seeds_by_kind": dict(sorted(self.kinds.items())),
            "never_happened": self.never,
            "measured": {
                "cpu_s": round(self.cpu_s, 1),
                "wall_s": round(time.monotonic() - self._began_s, 1),
                "events_a_cpu_second": round(self.rate),
            },
        }

    @property
    def rate(self) -> float:
        """Simulated events a CPU second, over the seeds that passed."""
        return self.steps / max(self._passed_cpu_s, 0.001)

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(self.counts.items()) if count)
        never = f"\nnever happened: {', '.join(self.never)}" if self.never else ""
        return (
            f"{len(self.passed)} seeds passed, {len(self.failed)} failed; {self.operations:,} operations in"
            f" {self.virtual_s:,.0f} virtual s, {self.steps:,} events; {told}{never}\n"
            f"{self.rate:,.0f} events a CPU second"
        )


Work = Callable[[int], Outcome]


def _outcomes(seeds: Iterable[int], work: Work, jobs: int) -> Iterator[Outcome]:
    """In the order of the seeds. No more are taken than there are processes for."""
    if jobs == 1:
        yield from map(work, seeds)
        return
    todo, running = iter(seeds), dict[connection.Connection, int]()
    ended: dict[int, Outcome] = {}
    order: list[int] = []
    while True:
        for seed in itertools.islice(todo, jobs - len(running)):
            running[_begin(work, seed)] = seed
            order.append(seed)
        if not running:
            return
        for answer in connection.wait(running):
            assert isinstance(answer, connection.Connection)
            seed = running.pop(answer)
            ended[seed] = _end(answer, seed)
        while order and order[0] in ended:
            yield ended.pop(order.pop(0))


def _begin(work: Work, seed: int) -> connection.Connection:
    """A process of its own for each seed: it takes its memory along, and no end of it is another's."""
    # Fork: it starts at once, and nothing runs in this process that it could cut in half.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    context.Process(target=_work, args=(work, seed, theirs), daemon=True).start()
    theirs.close()
    return ours


def _work(work: Work, seed: int, answer: connection.Connection) -> None:
    """In the seed's process. Who stops the campaign lets it end; Ctrl-C ends all."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()  # a tenth of its time, to free what goes with the process anyway
    answer.send(work(seed))


def _end(answer: connection.Connection, seed: int) -> Outcome:
    with answer:
        try:
            outcome = answer.recv()
        except EOFError:
            said = f"FAILED seed {seed}: its process ended without a word"
            return Outcome(seed, None, f"{said}\nrepeat it with: scripts/sim --seeds {seed}", 0.0)
    assert isinstance(outcome, Outcome)
    return outcome


class Stop:
    """When no further seed begins. A context manager: at its end SIGTERM is what it was before."""

    def __init__(self, minutes: float | None) -> None:
        self._deadline_s = time.monotonic() + minutes * 60 if minutes else float("inf")
        self._was_told = False

    def has_come(self) -> bool:
        """Whether it is time, or somebody said so."""
        return self._was_told or time.monotonic() >= self._deadline_s

    def _tell(self, *_: object) -> None:
        self._was_told = True

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._tell)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/sim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0..99", help="FROM..TO, or one number (default 0..99)")
    parser.add_argument("--minutes", type=float, help="stop after that long; with FROM alone, go on so long")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the totals there")
    parser.add_argument(
        "--kinds", default="", help=f"these fault kinds, by comma, instead of drawn ones: {', '.join(KINDS)}"
    )
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--quiet", action="store_true", help="print failing seeds and the totals only")
    arguments = parser.parse_args(words)
    arguments.kinds = tuple(filter(None, arguments.kinds.split(",")))
    if unknown := sorted(set(arguments.kinds) - set(KINDS)):
        parser.error(f"no such kind of fault: {', '.join(unknown)}")
    return arguments


def main(words: list[str] | None = None) -> int:
    """scripts/sim."""
    arguments = _arguments(words)
    first, _, last = arguments.seeds.partition("..")
    endless = arguments.minutes and not last
    seeds = itertools.count(int(first)) if endless else range(int(first), int(last or first) + 1)
    summary = Summary()
    work = partial(run_one, kinds=arguments.kinds, keep_trace=arguments.trace)
    with Stop(arguments.minutes) as stop:
        begun = itertools.takewhile(lambda _: not stop.has_come(), seeds)
        for count, outcome in enumerate(_outcomes(begun, work, arguments.jobs), 1):
            summary.add(outcome)
            if outcome.failure or not arguments.quiet:
                print(outcome.failure or outcome.report, flush=True)
            if arguments.json and count % WRITE_EVERY == 0:
                _write(arguments.json, summary)
    if arguments.json:
        _write(arguments.json, summary)
    print(summary)
    return min(len(summary.failed), 1)


def _write(path: Path, summary: Summary) -> None:
    """Whole or not at all, whenever this process ends."""
    building = path.with_name(f"{path.name}.tmp")
    building.write_text(json.dumps(summary.facts(), indent=2) + "\n")
    building.replace(path)


if __name__ == "__main__":
    sys.exit(main())
