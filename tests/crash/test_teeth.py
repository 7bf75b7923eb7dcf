"""The enumeration bites: a sync left out, a wrong order, an answer too early are each found.

Each bug is planted in the product, a run is recorded with it, and a bounded part of its beginnings is tried.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.crash.enumerate import Bounds, Tally, go_through
from tests.crash.runs import witness
from tests.mutations.plant import Mutation, planted

RUNS_TRIED = 4
"""Of other seeds: where a bug shows at all may depend on what happened to meet in a run."""


class Planted(NamedTuple):
    """A bug, the run in which it is found, and behind changes of which paths that is tried."""

    bug: Mutation
    run: str
    path: str = ""


BUGS = (
    Planted(
        Mutation(
            "frames are acknowledged before they are synced",
            "neumann.wal.writer",
            "Writer._drain",
            "            self._file.sync()\n",
            "",
        ),
        "alone",
    ),
    Planted(
        Mutation(
            "answers go out before the disk has what they promise",
            "neumann.runtime.durability",
            "Durability._write_batch",
            "        floor = self._floor()\n",
            "        floor = self._floor()\n        self._release(after)\n        after = []\n",
        ),
        "member",
    ),
    Planted(
        Mutation(
            "a file is renamed before its bytes are synced",
            "neumann.env.files",
            "write_new",
            "        file.sync()\n",
            "",
        ),
        "alone",
    ),
    Planted(
        Mutation(
            "a rename is taken for durable",
            "neumann.env.files",
            "write_durable",
            "    disk.sync_dir(posixpath.dirname(path))\n",
            "",
        ),
        "alone",
    ),
    Planted(
        Mutation(
            "a new segment's name is taken for durable",
            "neumann.wal.writer",
            "Writer._create",
            "        self._disk.sync_dir(self._directory)\n",
            "",
        ),
        "alone",
    ),
    Planted(
        Mutation(
            "a table is named by a manifest before it is synced",
            "neumann.store.table_writer",
            "TableWriter.finish",
            "        self._file.sync()\n",
            "",
        ),
        "alone",
        "/store/",
    ),
    Planted(
        Mutation(
            "the mark stays above what a truncation cuts",
            "neumann.runtime.marks",
            "MarkKeeper.lower",
            "        if highest.index <= mark.index:\n",
            "        if True:\n",
        ),
        "member",
        "/raft/wal",
    ),
    Planted(
        Mutation(
            "an install's journal goes before what it moved is durable",
            "neumann.snapshot.journal",
            "_place",
            "    _sync_parents(disk, paths, journal.place)\n",
            "",
        ),
        "member",
        "/scratch/old",
    ),
    Planted(
        Mutation(
            "an install moves files before its journal is durable",
            "neumann.snapshot.journal",
            "run",
            "    write_durable(disk, paths.journal, journal_format.encode(journal))\n"
            "    finish(disk, paths)\n",
            "    for source, target in (*journal.aside, *journal.place):\n"
            "        _move(disk, paths, source, target)\n"
            "    write_durable(disk, paths.journal, journal_format.encode(journal))\n"
            "    finish(disk, paths)\n",
        ),
        "member",
        "/scratch/old",
    ),
    Planted(
        Mutation(
            "a vote is written and not synced",
            "neumann.wal.slots",
            "TwoSlotFile.write",
            "                self._file.sync()\n",
            "",
        ),
        "member",
        "/raft/wal/",
    ),
)


@pytest.mark.parametrize("case", BUGS, ids=lambda case: case.bug.name)
def test_a_planted_bug_is_found(case: Planted) -> None:
    with planted(case.bug), pytest.raises((Exception, pytest.fail.Exception)) as found:
        for seed in range(1, RUNS_TRIED + 1):
            go_through(witness(case.run, seed), Bounds(path=case.path, subsets=24, torn=2), Tally())
    assert found.value.__notes__
