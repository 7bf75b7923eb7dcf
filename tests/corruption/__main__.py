"""The campaign: single bytes of a stopped node's files are changed, one at a time, and verify-checksums must
name each one and exit with 5.  scripts/corruption --flips 200 --seed 7 --budget 60

A real node writes the directory, on a real disk; the program that judges is the real `neumann-admin`. Half
of the flips are drawn evenly over all bytes, half evenly over the files, so that small files get their
share. `--every` damages each kind of file at each byte and to each length instead, in memory.
Exit 1 if one was not named; 0 otherwise, also if the budget ended it early, which the output says.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import pytest

from tests.cli.conftest import run_admin
from tests.corruption.directory import ROOT, files, load, make
from tests.corruption.every import KINDS, OPENS_MAX, Case, every_flip, every_length
from tests.corruption.judge import Tally


def draw(rng: Random, sizes: dict[Path, int]) -> tuple[Path, int, int]:
    """(file, offset, what to XOR the byte with)."""
    if rng.random() < 0.5:
        path = rng.choice(sorted(sizes))
    else:
        path = rng.choices(sorted(sizes), [sizes[path] for path in sorted(sizes)])[0]
    return path, rng.randrange(sizes[path]), rng.randrange(1, 256)


def change(path: Path, offset: int, mask: int) -> None:
    """Change one byte; the same again changes it back."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def is_named(data_dir: Path, path: Path, patch: pytest.MonkeyPatch) -> bool:
    """Whether `neumann-admin verify-checksums` names the file and exits with 5."""
    ended = run_admin(("verify-checksums", "--data-dir", data_dir, "--format", "json"), {}, patch)
    damaged = [Path(damage["path"]) for damage in ended.json["damage"]]
    return ended.code == 5 and any(one.exists() and one.samefile(path) for one in damaged)


def campaign(root: Path, flips: int, seed: int, budget_s: float) -> int:
    """Random flips on a real disk; the exit code."""
    asyncio.run(make(root))
    data_dir = root / "n1"
    paths = [data_dir / os.path.relpath(path, ROOT) for path in files(load(root), ROOT)]
    sizes = {path: path.stat().st_size for path in paths}
    rng, ends = Random(seed), time.monotonic() + budget_s
    tally, missed, done = Tally(), 0, 0
    with pytest.MonkeyPatch.context() as patch:
        if run_admin(("verify-checksums", "--data-dir", data_dir), {}, patch).code != 0:
            print("the directory is damaged before anything was changed")
            return 1
        while done < flips and time.monotonic() < ends:
            path, offset, mask = draw(rng, sizes)
            change(path, offset, mask)
            done += 1
            what = "named" if is_named(data_dir, path, patch) else "MISSED"
            tally.add(path.suffix.lstrip(".") or path.name, what)
            if what == "MISSED":
                missed += 1
                print(f"missed: {path}, offset {offset}, byte XOR {mask:#04x}")
            change(path, offset, mask)
    print("\n".join(tally.lines()))
    early = "" if done == flips else f", of {flips}: the budget of {budget_s:g} s is used up"
    print(f"seed={seed}: {done} flips{early}; {done - missed} named with exit 5, {missed} missed")
    return 1 if missed else 0


def every(root: Path, budget_s: float) -> int:
    """Each byte and each length of each kind of file; the exit code. The budget ends it between kinds."""
    logging.getLogger("neumann").setLevel(logging.ERROR)  # each start says what it repairs
    config = asyncio.run(make(root))
    case, tally, ends = (
        Case.of(load(root), load(root, keep_links=False), config),
        Tally(),
        time.monotonic() + budget_s,
    )
    for kind in KINDS:
        if time.monotonic() > ends:
            print(f"the budget of {budget_s:g} s is used up before: {kind}")
            break
        every_flip(case, kind, tally, opens_max=OPENS_MAX)
        every_length(case, kind, tally, opens_max=OPENS_MAX)
    print("\n".join(tally.lines()))
    print(
        f"{tally.total('flipped')} flips and {tally.total('cut')} lengths: {tally.total('named')} named, "
        f"{tally.total('room')} in unused room, nothing wrong was served"
    )
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/corruption", description=__doc__)
    parser.add_argument("--flips", type=int, default=200, metavar="N", help="so many (200)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which ones (0)")
    parser.add_argument("--budget", type=float, default=300.0, metavar="SECONDS", help="then it ends (300)")
    parser.add_argument("--every", action="store_true", help="each byte and each length; takes minutes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="neumann-corruption-") as root:
        if given.every:
            sys.exit(every(Path(root), given.budget))
        sys.exit(campaign(Path(root), given.flips, given.seed, given.budget))


if __name__ == "__main__":
    main()
