"""Each kind of file of a real stopped node, each byte flipped, each length: named, and never served.

The fast slice takes a sample of places; the slow one takes them all. `scripts/corruption --every` prints
the same as a table.
"""

from __future__ import annotations

import asyncio
import posixpath

import pytest

from neumann.config import Config
from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format.names import Paths
from neumann.runtime.opening import open_member
from tests.corruption import judge
from tests.corruption.directory import ROOT, files, kinds, load, make
from tests.corruption.every import KINDS, OPENS_MAX, Case, every_flip, every_length
from tests.corruption.judge import Served, Tally


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One directory for all tests of this file; none of them changes it."""
    root = tmp_path_factory.mktemp("stopped")
    config: Config = asyncio.run(make(root))
    return Case.of(load(root), load(root, keep_links=False), config)


def test_the_directory_has_a_file_of_each_kind(case: Case) -> None:
    assert list(kinds(case.disk)) == list(KINDS)
    assert not any(judge.named(case.disk, path) for path in kinds(case.disk).values())
    unlisted = {*files(case.disk, ROOT)} - {*kinds(case.disk).values()}
    assert {posixpath.basename(path).partition(".")[2] for path in unlisted} <= {
        "wal",
        "table",
        "history",
        "",
    }
    assert len(case.truth.rows) >= 5 and case.truth.frames
    assert judge.serve(case.disk, case.config, case.truth) is Served.REPAIRED


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_flips(case: Case, kind: str) -> None:
    tally = Tally()
    every_flip(case, kind, tally, places_max=40, opens_max=8)
    assert tally.total("named") == tally.total("flipped") >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_lengths(case: Case, kind: str) -> None:
    tally = Tally()
    every_length(case, kind, tally, places_max=20, opens_max=6)
    assert tally.total("named") + tally.total("room") == tally.total("cut") >= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_every_flip(case: Case, kind: str) -> None:
    tally = Tally()
    every_flip(case, kind, tally, opens_max=OPENS_MAX)
    size = len(read_file(case.disk_of(kind), case.path_of(kind)))
    assert tally.total("named") == tally.total("flipped") == size


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_every_length(case: Case, kind: str) -> None:
    tally = Tally()
    every_length(case, kind, tally, opens_max=OPENS_MAX)
    size = len(read_file(case.disk_of(kind), case.path_of(kind)))
    assert tally.total("named") + tally.total("room") == tally.total("cut") == size
    assert bool(tally.total("room")) == (kind == "open segment")


# --- what each kind of damage comes to ----------------------------------------------------------------


def outcomes(case: Case, kind: str) -> set[Served]:
    """Over a sample of flips."""
    tally = Tally()
    every_flip(case, kind, tally, places_max=12, opens_max=12)
    return {served for served in Served if tally.total(served.value)}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sealed segment above the manifest", {Served.REFUSED, Served.REPAIRED}),
        ("manifest", {Served.REFUSED}),
        ("identity", {Served.REFUSED}),
        ("vote", {Served.REPAIRED}),
        ("sync mark", {Served.REPAIRED}),
        ("older manifest", {Served.UNUSED}),
        ("restored", {Served.UNUSED}),
        ("published manifest", {Served.UNUSED}),
        ("published table", {Served.UNUSED}),
        ("own history", {Served.UNUSED}),
    ],
)
def test_what_a_start_makes_of_it(case: Case, kind: str, expected: set[Served]) -> None:
    assert outcomes(case, kind) == expected


@pytest.mark.parametrize("kind", ["sealed segment", "table"])
def test_below_the_manifest_a_start_may_not_notice_and_a_read_does(case: Case, kind: str) -> None:
    assert outcomes(case, kind) <= {Served.REFUSED, Served.UNREADABLE, Served.UNUSED}
    assert Served.UNREADABLE in outcomes(case, kind)


MAY_BE_MISSING = {
    "sealed segment": "the oldest: retention drops it",
    "older manifest": "the next snapshot drops it",
    "restored": "only a restore leaves one",
    "archived segment": "the next one says that it is missing: tests/recovery",
    "history": "manifests hold it as well",
    "own history": "the same",
}


# --- the judge can tell -------------------------------------------------------------------------------


def test_a_wrong_byte_that_is_served_is_found(case: Case) -> None:
    """Without this, a judge that sees nothing would pass everything."""
    truth = case.truth
    other = truth._replace(rows=truth.rows[1:])
    with pytest.raises(judge.Wrong):
        judge.serve(case.disk, case.config, other)
    with pytest.raises(judge.Wrong):
        judge.serve(case.disk, case.config, truth._replace(frames=truth.frames[:-1]))
    with pytest.raises(judge.Wrong):
        judge.serve(case.disk, case.config, truth._replace(vote=truth.vote._replace(term=99)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MAY_BE_MISSING])
def test_a_missing_file_is_named_or_refused(case: Case, kind: str) -> None:
    disk = case.disk.fork()
    disk.unlink(case.path_of(kind))
    assert judge.anything_named(disk) or judge.serve(disk, case.config, case.truth) is Served.REFUSED


def test_a_damaged_manifest_is_called_damaged(case: Case) -> None:
    """It was taken for a store that somebody had put there, since an older manifest could be read."""
    disk, path = case.disk.fork(), case.path_of("manifest")
    disk.flip(path, 40, 0)
    with pytest.raises(Corrupt, match=path):
        open_member(disk, Paths(ROOT), case.config, 0)
