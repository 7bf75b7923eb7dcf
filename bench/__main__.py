"""`scripts/bench [NAME ...] [--quick] [--json FILE]`: run questions and print ratios first."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import bench
from bench.harness.load import LoadFailed, Missing
from bench.harness.machine import describe
from bench.harness.stage import OURS, THEIRS, Stage
from tests.procedures.process import StartFailed

FAILURES = (LoadFailed, StartFailed, OSError)  # a TimeoutError is an OSError
"""What a question may end with on a machine where another one succeeds."""


def questions() -> dict[str, Any]:
    """Modules of this package that measure something, by name."""
    names = [found.name for found in pkgutil.iter_modules(bench.__path__) if not found.name.startswith("_")]
    modules = {name: importlib.import_module(f"bench.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "measure")}


def arguments(known: dict[str, Any]) -> argparse.Namespace:
    meanings = "\n".join(f"  {name:24} {module.__doc__.splitlines()[0]}" for name, module in known.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"Measure neumann, beside others where there are such.\n\n{meanings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions; all without one")
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of 2 s, not three of 5 s, and small stores"
    )
    parser.add_argument("--large", action="store_true", help="the largest stores too: minutes more, and disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--only", choices=(OURS, THEIRS), help="measure one side, for finding things out")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="cProfile our nodes; slows them")
    parser.add_argument("--directory", type=Path, help="for data (the system's temporary one)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no question is called {unknown[0]!r}; there are {', '.join(known)}")
    return options


def main() -> int:
    known = questions()
    options = arguments(known)
    # A `kill` ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    root = Path(tempfile.mkdtemp(prefix="neumann-bench-", dir=options.directory))
    rounds, seconds, warmup_s = (2, 2.0, 0.5) if options.quick else (3, 5.0, 1.0)
    sides = (options.only,) if options.only else (OURS, THEIRS)
    profile = options.profile and options.profile.resolve()
    stage = Stage(root, rounds, seconds, warmup_s, sides, profile, options.quick, options.large)
    try:
        machine = describe(root)
        if machine["file_system"] == "tmpfs":
            print(f"bench: {root} is in memory: fdatasync costs nothing; see --directory", file=sys.stderr)
        answers = Answers(options.json)
        for name in options.names or known:
            answers.ask(name, known[name].measure, stage)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print_results(answers.results, machine)
    for line in answers.failures:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if answers.failures or not answers.results else 0


class Answer(Protocol):
    """What a question gives: a compare.Result or a measured.Measured."""

    @property
    def name(self) -> str: ...

    @property
    def ratio(self) -> float | None: ...

    def to_json(self) -> dict[str, Any]: ...

    def ratio_line(self) -> str: ...

    def lines(self) -> list[str]: ...


class Answers:
    """What was found so far; `file` always holds all of it. A question that fails loses no other one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.results: list[Answer] = []
        self.failures: list[str] = []

    def ask(self, name: str, measure: Callable[[Stage], Answer], stage: Stage) -> None:
        """Measure it; a question whose programs are not installed is skipped with one line."""
        try:
            self.results.append(measure(stage))
        except Missing as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
        except FAILURES as error:
            self.failures.append(f"{name} failed: {error}")
            print(self.failures[-1], file=sys.stderr)
        if self._file is not None:
            self._file.write_text(json.dumps([one.to_json() for one in self.results], indent=2) + "\n")


def print_results(results: Sequence[Answer], machine: dict[str, object]) -> None:
    """Ratios, then each side's medians, then the machine."""
    for result in results:
        if result.ratio is not None:
            print(result.ratio_line())
    print()
    for result in results:
        print("\n".join(result.lines()))
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    sys.exit(main())
