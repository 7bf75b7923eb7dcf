"""docs/format.md against the code: every example, offset table, number and limit that stands there."""

from __future__ import annotations

import ast
import re
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import lz4.block
import msgpack
import pytest

from neumann.format import checksum, frame, limits, message, names, record, rpc, segment, table
from neumann.format import history as history_format
from neumann.format.checksum import crc32c
from neumann.format.fields import types_of
from neumann.format.frame import Kind
from neumann.format.ids import LogPoint
from neumann.format.special import Marker
from neumann.format.state import SyncMark, Vote
from tests.format import page, stranger
from tests.format.examples import (
    EXAMPLES,
    FRAME_PARTS,
    FRAMES,
    HISTORY,
    MANIFEST,
    RECORD_PARTS,
    SEGMENT_PARTS,
    TABLE_REF,
)

TEXT = page.PAGE.read_text(encoding="utf-8")
BLOCKS = page.blocks(TEXT)
FORMAT = Path(frame.__file__).parent


# --- examples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_codec_reads_and_writes(name: str) -> None:
    example = EXAMPLES[name]
    data = page.bytes_of(BLOCKS["hex", name])
    value = example.decode(data)
    assert value == example.value
    assert example.encode(value) == data


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_told_as_it_is(name: str) -> None:
    assert BLOCKS["hex", name] == page.hex_block(EXAMPLES[name])
    if ("json", name) in BLOCKS:
        assert BLOCKS["json", name] == page.json_block(EXAMPLES[name])


def test_every_example_of_the_page_is_tested() -> None:
    assert {name for kind, name in BLOCKS if kind == "hex"} == EXAMPLES.keys()
    assert page.rewritten(TEXT, EXAMPLES) == TEXT


def test_the_examples_belong_together() -> None:
    """What the page says of the links between files, in its own bytes."""
    data = page.bytes_of(BLOCKS["hex", "segment"])
    found = stranger.Segment(data)
    assert found.previous_chain == HISTORY.base.chain
    assert data[64 + 49 :].startswith(page.bytes_of(BLOCKS["hex", "frame"]))
    assert MANIFEST.point == FRAMES[-1].header.end
    assert TABLE_REF.digest == checksum.digest(stranger_content(page.bytes_of(BLOCKS["hex", "table"])))
    payload = page.bytes_of(BLOCKS["hex", "history"])[16:]
    first = msgpack.unpackb(payload, use_list=False)[1][0]
    assert crc32c(msgpack.packb(first)) == HISTORY.base.chain
    assert (
        history_format.decode(page.bytes_of(BLOCKS["hex", "history"]), "page").records[0]
        == HISTORY.records[0]
    )


def stranger_content(data: bytes) -> bytes:
    """The content of the example's only block, by the page's words."""
    raw_bytes, stored_bytes = struct.unpack_from("<II", data, 12)
    content: bytes = lz4.block.decompress(data[20 : 20 + stored_bytes], uncompressed_size=raw_bytes)
    return content


# --- offset tables ------------------------------------------------------------------------------------

ROW = re.compile(r"^ +(\d+) +(\d+|-) (.*)$", re.MULTILINE)


def offsets(text: str) -> list[tuple[int, str, str]]:
    """(offset, bytes, the rest of the line) of an offset table."""
    return [(int(offset), size, rest) for offset, size, rest in ROW.findall(text)]


def offset_table(name: str) -> str:
    found = re.search(rf"^```text offsets {name}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("module", "head_bytes", "has_body"),
    [
        (frame, frame.HEADER_BYTES, True),
        (segment, segment.SEGMENT_HEADER_BYTES, False),
        (record, 16, True),
    ],
    ids=["frame", "segment", "record"],
)
def test_offset_tables_of_page_and_code(module: ModuleType, head_bytes: int, has_body: bool) -> None:
    rows = offsets(offset_table(module.__name__.rpartition(".")[2]))
    assert rows == offsets(module.__doc__ or "")
    fixed = [(offset, int(size)) for offset, size, _ in rows if size != "-"]
    assert [offset for offset, _, _ in rows] == [0, *(offset + size for offset, size in fixed)][: len(rows)]
    assert sum(fixed[-1]) == head_bytes
    assert (len(rows) > len(fixed)) == has_body


def test_the_table_s_layout_of_page_and_code() -> None:
    """The code's docstring indents it."""
    assert table.__doc__ is not None
    code = re.sub(r"^    ", "", table.__doc__, flags=re.MULTILINE)
    assert offset_table("table") in code
    sizes = map(int, re.findall(r"(?<=\w )\d+(?=,| \(|$)", offset_table("table").partition("footer")[2]))
    assert sum(sizes) == table.FOOTER_BYTES == 104


def test_parts_of_an_example_are_those_of_the_offset_table() -> None:
    for name, parts in (("frame", FRAME_PARTS), ("segment", SEGMENT_PARTS), ("record", RECORD_PARTS)):
        rows = offsets(offset_table(name))
        told = [(int(size), rest) for _, size, rest in rows if size != "-"]
        assert [size for size, _ in told] == [size for size, _ in parts]
        assert all(rest.startswith(label) for (_, rest), (_, label) in zip(told, parts, strict=True))


# --- numbers ------------------------------------------------------------------------------------------


def section(title: str) -> str:
    """The text below a heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows_of(title: str) -> list[tuple[str, ...]]:
    """The rows of the markdown tables in a section, code marks taken off."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in lines]


def test_limits() -> None:
    told = {name: int(number) for name, number in rows_of("Limits")[1:]}
    assert told == {name: number for name, number in vars(limits).items() if name.endswith("_MAX")}


def test_kinds() -> None:
    assert {int(number): name for number, name in rows_of("Frame")[1:]} == {int(k): k.name for k in Kind}


def test_magics() -> None:
    """Those that the modules of format/ hold."""
    held = set()
    for path in FORMAT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                held |= {node.value.decode()} if re.fullmatch(rb"NEU[A-Z]{3}01", node.value) else set()
    assert {magic for magic, _ in rows_of("Record")[1:]} == held - {table.MAGIC.decode()}


def named(text: str) -> list[tuple[str, type]]:
    """`pre bool, term` -> names with types; an int where none stands."""
    types = {"bool": bool, "str": str, "bin": bytes, "int": int}
    words = [part.split() for part in text.replace("`", "").split(",")]
    return [(name, types[rest[0]] if rest else int) for name, *rest in words]


def test_fields_of_peer_messages() -> None:
    kinds = message.Message.__args__
    told = [row for row in rows_of("Peer messages") if row[0].isdigit()]
    assert [name for _, name, _ in told] == [cls.__name__ for cls in kinds]
    for (_, _, fields), cls in zip(told, kinds, strict=True):
        assert named(fields) == list(zip(cls._fields, types_of(cls), strict=True))[:7]
    status = re.search(r"`\[(start_number.*?)\]`", section("Peer messages"), re.DOTALL)
    assert status is not None
    assert named(status[1]) == list(zip(message.Status._fields, types_of(message.Status), strict=True))


def bracketed(title: str) -> list[tuple[str, type]]:
    """The first `[...]` of a section."""
    found = re.search(r"`\[(.*?)\]`", section(title), re.DOTALL)
    assert found is not None
    return named(found[1])


@pytest.mark.parametrize(("title", "cls"), [("Vote", Vote), ("Sync mark", SyncMark)])
def test_fields_of_slots(title: str, cls: Any) -> None:
    assert bracketed(title) == [("sequence", int), *zip(cls._fields, types_of(cls), strict=True)]


def test_fields_of_a_marker_and_a_point() -> None:
    told = next(fields for kind, fields in rows_of("Special entries") if kind == "MARKER")
    assert [name for name, _ in named(told)] == list(Marker._fields)
    assert [name for name, _ in bracketed("Conventions")] == ["counter", "random"]
    assert f"`[{', '.join(LogPoint._fields)}]`" in section("Conventions")


def test_numbers_in_the_prose() -> None:
    assert crc32c(b"123456789") == stranger.crc32c(b"123456789") == 0xE3069283
    assert "The version is 1." in section("Frame") and frame.FRAME_VERSION == 1
    assert "The version is 1." in section("Segment") and segment.SEGMENT_VERSION == 1
    assert "NEUWAL" in section("Segment") and segment.SEGMENT_MAGIC == b"NEUWAL\x00\x01"
    assert "exactly 8192 bytes" in section("Record") and record.SLOT_BYTES * record.SLOT_COUNT == 8192
    assert "and 16." in section("Sorted table") and table.ROW_WEIGHT == 16
    assert "It covers 64 blocks" in section("Sorted table") and table.FILTER_BLOCKS == 64
    assert "is 1." in section("RPC") and rpc.PROTOCOL_VERSION == 1
    assert "level 1." in section("Versions") and limits.FEATURE_LEVEL == 1
    for name in (
        *names.OURS,
        names.IDENTITY,
        names.VOTE,
        names.SYNC_MARK,
        names.RESTORED,
        names.DIVERGED,
        names.LATEST,
    ):
        assert name in section("Names")


def test_links_of_the_page_lead_somewhere() -> None:
    titles = {
        re.sub(r"[^a-z0-9 -]", "", t.lower()).replace(" ", "-") for t in re.findall(r"^## (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\(#([a-z-]+)\)", TEXT)) <= titles
    for path in re.findall(r"`(\w+/\w+\.py)`", TEXT):
        assert (FORMAT.parent / path).exists(), path
