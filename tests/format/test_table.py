"""Blocks, index and footer of a sorted table: there and back, every bit checked. Whole files: tests/store."""

from __future__ import annotations

import struct
from array import array

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neumann.errors import Corrupt, FormatTooNew
from neumann.format import table
from neumann.format.checksum import crc32c
from neumann.format.table import Columns, Footer, Index
from tests.format import strategies
from tests.format.examples import EXAMPLES

WHERE = "/some/table"
EXAMPLE = EXAMPLES["table"]
FOOTER = EXAMPLE.data[-table.FOOTER_BYTES :]
rows = st.lists(
    st.tuples(strategies.text, st.none() | st.binary(max_size=9), strategies.u64, strategies.u64),
    min_size=1,
    max_size=9,
).map(lambda found: Columns(*zip(*found, strict=True)))


@settings(deadline=None, max_examples=40)
@given(content=rows)
def test_a_block(content: Columns) -> None:
    encoded = table.encode_content(content)
    assert table.decode_rows(table.decode_content(table.encode_block(encoded), WHERE), WHERE) == content


def _index_columns(blocks: list[tuple[str, int, int]]) -> tuple[tuple[str, ...], array[int], array[int]]:
    keys, ends, row_ends = zip(*blocks, strict=True)
    return keys, array("Q", ends), array("Q", row_ends)


@settings(deadline=None, max_examples=40)
@given(
    index=st.lists(st.tuples(strategies.text, strategies.u64, strategies.u64), min_size=1).map(
        lambda blocks: Index(*_index_columns(blocks), blocks[-1][0])
    ),
    counts=st.tuples(strategies.u64, strategies.u64, strategies.u64),
    digest=strategies.digests,
)
def test_an_end(index: Index, counts: tuple[int, int, int], digest: bytes) -> None:
    data = table.encode_end(index, *counts, digest)
    footer = table.decode_footer(data[-table.FOOTER_BYTES :], WHERE)
    assert footer == Footer(len(data) - table.FOOTER_BYTES, footer.index_crc, *counts, digest)
    assert table.decode_index(data[: -table.FOOTER_BYTES], footer, WHERE) == index


def test_every_flipped_bit_is_corruption() -> None:
    for offset in range(len(EXAMPLE.data)):
        for bit in range(8):
            changed = bytearray(EXAMPLE.data)
            changed[offset] ^= 1 << bit
            with pytest.raises(Corrupt):
                EXAMPLE.decode(bytes(changed))


def test_every_length_is_corruption() -> None:
    for size in range(len(EXAMPLE.data)):
        with pytest.raises(Corrupt):
            table.decode_footer(EXAMPLE.data[:size][-table.FOOTER_BYTES :], WHERE)


def test_a_later_version_is_told_apart_from_damage() -> None:
    head, magic = FOOTER[:-12], b"NEUTAB02"
    with pytest.raises(FormatTooNew, match=WHERE):
        table.decode_footer(head + struct.pack("<I", crc32c(head + magic)) + magic, WHERE)


@settings(deadline=None, max_examples=60)
@given(content=strategies.rubbish)
@example(content=b"\x94\x01\x00\x00\x00")
@example(content=b"\x94\x91\x01\x91\x00\x91\x00\x92\x00\x00")
def test_no_rows_under_a_good_checksum(content: bytes) -> None:
    try:
        found = table.decode_rows(table.decode_content(table.encode_block(content), WHERE), WHERE)
    except Corrupt as error:
        assert WHERE in error.message
    else:
        assert len({len(column) for column in found}) == 1, "four columns all the same"


@settings(deadline=None, max_examples=60)
@given(content=strategies.rubbish)
@example(content=b"\x94\x01\x00\x00\x00")
@example(content=b"\x94\x91\x00\x91\x00\x91\x00\x00")
@example(content=b"\x94\x91\xa0\x91\x00\x91\xff\xa0")
@example(content=b"\x94\x90\x90\x90\xa0")
def test_no_index_under_a_good_checksum(content: bytes) -> None:
    footer = Footer(len(content), crc32c(content), 0, 0, 0, bytes(32))
    try:
        found = table.decode_index(content, footer, WHERE)
    except Corrupt as error:
        assert WHERE in error.message
    else:
        assert {*map(type, found.first_keys)} == {str}, "an index all the same"
