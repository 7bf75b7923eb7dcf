"""A reader that was written from docs/format.md alone reads what a real log wrote."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumann.env.disk import RealDisk
from neumann.env.files import read_file
from neumann.format import command, frame, special
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration, LogPoint, Member
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.segment import SegmentHeader, encode_header
from neumann.format.special import Archived, Break, Marker, Noop, Pause, Resume, Special
from neumann.store.manifests import write_manifest
from neumann.store.table_writer import write_table
from neumann.wal import Log
from tests.format import stranger
from tests.store.rows import Rows, in_order, live, manifest_of, some_rows
from tests.wal.bench import BASE, CLUSTER, SEGMENT_BYTES, TIMELINE

COMMANDS = [
    command.encode_put("cities", "berlin", command.pack_value({"population": 3_700_000})),
    command.encode_delete("cities", "ü", (command.ABSENT,)),
    command.encode_batch([(command.PUT, "t", "k", (command.REVISION, 1), b"\xc0")]),
    b"\xd9\x01k",  # no command, and an entry all the same
]
SPECIALS: list[Special] = [
    Noop(),
    Configuration((Member("n1", b"s" * 16, "h:1", "voter"),), ("n2",)),
    Pause("me", 5, "why"),
    Resume("asked"),
    Archived(3),
    Break(1, 2, "why"),
    Marker(name="point"),
    Marker(seal=True),
]


def frames_behind(base: LogPoint, rounds: int) -> list[Frame]:
    """Frames of every kind, several times; terms and times go up."""
    frames: list[Frame] = []
    point = base
    for number in range(rounds):
        bodies = [special.encode(one) for one in SPECIALS]
        for kind, entries in [(Kind.DATA, COMMANDS), *((kind, [body]) for kind, body in bodies)]:
            frames.append(
                frame.encode(kind, point.index + 1, number + 1, point.index + 1, point.chain, entries)
            )
            point = frames[-1].header.end
    return frames


def expected(frames: list[Frame]) -> list[stranger.Entry]:
    """The entries of these frames, as the product's codecs tell them."""
    entries = []
    for one in frames:
        header = one.header
        bodies = COMMANDS if header.kind is Kind.DATA else [one.body]
        for index, body in enumerate(bodies, header.first_index):
            entries.append(
                stranger.Entry(index, header.term, header.time_ns, int(header.kind), msgpack.unpackb(body))
            )
    return entries


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Frame], list[bytes]]:
    """Frames, and the segments of a log on a real disk that holds them; the last one is open."""
    disk, directory = RealDisk(), str(tmp_path_factory.mktemp("wal"))
    log = Log.create(disk, directory, CLUSTER, TIMELINE, BASE, SEGMENT_BYTES)
    frames = frames_behind(BASE, 5)[:-1]
    log.stage(frames)
    batch = log.take_batch()
    assert batch is not None
    batch.run()
    log.close()
    return frames, [read_file(disk, info.path) for info in log.segments()]


def test_it_uses_nothing_of_the_product() -> None:
    tree = ast.parse(Path(stranger.__file__).read_text())
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    own = {"__future__", "collections.abc", "typing", "struct", "hashlib"}
    assert imported == own | {"crcmod.predefined", "lz4.block", "msgpack"}


def test_it_reads_the_same_entries(written: tuple[list[Frame], list[bytes]]) -> None:
    frames, files = written
    segments = [stranger.Segment(data) for data in files]
    entries = [entry for segment in segments for entry in segment.entries()]
    assert entries == expected(frames)
    assert [segment.is_sealed for segment in segments] == [True] * 4 + [False]
    assert [segment.first_index for segment in segments] == [1, 13, 25, 37, 49]
    assert {(segment.cluster_id, segment.timeline) for segment in segments} == {(CLUSTER, str(TIMELINE))}
    assert len(files[-1]) > segments[-1].end


@settings(deadline=None)
@given(data=st.data())
def test_it_finds_every_flipped_bit(written: tuple[list[Frame], list[bytes]], data: st.DataObject) -> None:
    sealed = written[1][1]
    offset, bit = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(0, 7))
    broken = bytearray(sealed)
    broken[offset] ^= 1 << bit
    good = list(stranger.Segment(sealed).entries())
    read = []
    with pytest.raises(stranger.Damaged):
        for entry in stranger.Segment(bytes(broken)).entries():
            read.append(entry)
    assert read == good[: len(read)]


def test_an_undecodable_body_is_no_damage() -> None:
    """An entry that can't be decoded changes nothing, on every node alike; the reader goes on behind it."""
    header = frame.encode(Kind.DATA, 1, 1, 1, BASE.chain, [b"\xc1"])
    segment = stranger.Segment(_segment_of([header]))
    assert [entry.content for entry in segment.entries()] == [None]


def _segment_of(frames: list[Frame]) -> bytes:
    return encode_header(SegmentHeader(CLUSTER, TIMELINE, 1, 0, BASE.chain)) + b"".join(
        f.data for f in frames
    )


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, bytes, dict[bytes, bytes], Rows]:
    """A manifest over three tables that overlap, its bytes, theirs, and the rows that it means."""
    disk, directory = RealDisk(), str(tmp_path_factory.mktemp("store"))
    rng, meant, refs = random.Random(3), Rows(), []
    for revision in (1, 1000, 2000):
        rows = some_rows(rng, 300, revision)
        meant |= rows
        ref = write_table(disk, directory, in_order(rows), 100)
        assert ref is not None
        refs.insert(0, ref)
    manifest = manifest_of(*refs, index=7, block_bytes=100)
    write_manifest(disk, directory, manifest)
    files = {ref.digest: read_file(disk, f"{directory}/{ref.name}.table") for ref in refs}
    return manifest, read_file(disk, f"{directory}/7-1.manifest"), files, meant


def test_it_reads_the_rows_of_a_snapshot(
    snapshot: tuple[Manifest, bytes, dict[bytes, bytes], Rows],
) -> None:
    manifest, data, files, meant = snapshot
    found = stranger.read_manifest(data)
    assert (found.index, found.term, found.block_bytes) == (7, 1, 100)
    assert found.layout_digest == layout_digest(manifest)
    assert [(r.address, r[1:]) for r in stranger.rows_of(found, files)] == live(meant)
    assert all(len(stranger.Table(data).ends) > 64 for data in files.values()), "more than one filter"


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_it_finds_every_flipped_bit_of_a_snapshot(
    snapshot: tuple[Manifest, bytes, dict[bytes, bytes], Rows], data: st.DataObject
) -> None:
    _, manifest, files, _ = snapshot
    read, whole = data.draw(
        st.sampled_from([(stranger.read_manifest, manifest), (stranger.Table, next(iter(files.values())))])
    )
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(stranger.Damaged):
        read(bytes(broken))
