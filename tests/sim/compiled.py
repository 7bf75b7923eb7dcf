"""Compiles what a campaign spends its time in, by mypyc, which comes with mypy. Prints where it lies.

A seed's digest says whether a compiled world is the same one (test_compiled.py): only modules are named
here of which it does. mypyc does not take all code, and it confuses which exception a coroutine raises
again, so most of what waits is left as it is.
Called by scripts/sim-compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build/sim"
COMPILED = (
    "neumann/format",
    "neumann/machine",
    "neumann/raft",
    "neumann/wal",
    "neumann/runtime/applier.py",
    "neumann/runtime/core.py",
    "neumann/runtime/durability.py",
    "neumann/runtime/duties.py",
    "neumann/runtime/ending.py",
    "neumann/runtime/lag.py",
    "neumann/runtime/leading.py",
    "neumann/runtime/member.py",
    "neumann/runtime/metrics.py",
    "neumann/runtime/peers.py",
    "neumann/runtime/proposer.py",
    "neumann/runtime/pump.py",
    "neumann/runtime/reader.py",
    "neumann/runtime/stalls.py",
    "neumann/runtime/views.py",
    "neumann/snapshot/publish.py",
    "neumann/store/cache.py",
    "neumann/store/memtable.py",
    "neumann/store/merge.py",
    "neumann/store/store.py",
    "neumann/store/table_writer.py",
    "neumann/store/view.py",
    "tests/sim/checkers",
    "tests/sim/disk.py",
    "tests/sim/doors.py",
    "tests/sim/loop.py",
    "tests/sim/machine.py",
    "tests/sim/model.py",
    "tests/sim/net.py",
    "tests/sim/record.py",
    "tests/sim/trace.py",
    "tests/sim/world.py",
)
LEFT_OUT = (
    "neumann/format/command.py",  # literals of surrogates
    "neumann/format/restored.py",  # built from its own annotations
    "tests/sim/checkers/violation.py",  # of a built-in class
)


def modules() -> list[str]:
    """What is compiled, below ROOT."""
    places = [ROOT / name for name in COMPILED]
    files = [path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])]
    kept = {str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py"}
    return sorted(kept.difference(LEFT_OUT))


def state() -> str:
    """The sources, as a digest."""
    found = [*(ROOT / "neumann").rglob("*.py"), *(ROOT / "tests/sim").rglob("*.py")]
    sources = [path for path in found if not path.name.startswith("test_")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()


def compile_all() -> None:
    """Into PLACE, unless these very sources are compiled there."""
    wanted, done = state(), PLACE / "state"
    if done.exists() and done.read_text() == wanted:
        return
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(ROOT / "neumann", PLACE / "neumann")
    shutil.copytree(ROOT / "tests/sim", PLACE / "tests/sim")
    for name in ("pyproject.toml", "tests/__init__.py"):
        shutil.copy(ROOT / name, PLACE / name)
    os.chdir(PLACE)
    extensions = mypycify(modules(), opt_level="1", debug_level="0", multi_file=True)
    setup(name="sim", packages=[], ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])
    done.write_text(wanted)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        compile_all()
    print(PLACE)
