"""The drill's record is the judge: it must itself be right, and must not overlook a difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from neumann.format.checksum import digest
from neumann.format.table import Columns, content_bytes
from tests.procedures.drill.record import Record, content_digest, pack
from tests.procedures.drill.stage import differences


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    made = Record(tmp_path / "record.jsonl")
    yield made
    made.close()


def test_state_at_an_index(record: Record) -> None:
    # Acknowledgements may come in another order than the indexes have.
    record.acknowledged(7, 0, [("t", "b", pack(2))])
    record.acknowledged(5, 0, [("t", "a", pack(1)), ("t", "b", pack(1))])
    record.acknowledged(9, 0, [("t", "a", None)])
    assert record.state(through=6).rows == {("t", "a"): (pack(1), 5), ("t", "b"): (pack(1), 5)}
    assert record.state(through=8).rows == {("t", "a"): (pack(1), 5), ("t", "b"): (pack(2), 7)}
    assert record.state().rows == {("t", "b"): (pack(2), 7)}
    assert record.state(through=8).last.index == 7


def test_a_restore_forgets_what_came_later(record: Record) -> None:
    record.acknowledged(5, 0, [("t", "a", pack(1))])
    restored_to = record.state()
    record.acknowledged(6, 0, [("t", "a", pack(2)), ("t", "b", pack(2))])
    record.restored(restored_to)
    assert record.state().rows == restored_to.rows
    record.acknowledged(2_000_000_001, 0, [("t", "c", pack(3))])
    assert record.state().rows == {("t", "a"): (pack(1), 5), ("t", "c"): (pack(3), 2_000_000_001)}


def test_the_content_digest_is_the_one_that_the_product_documents() -> None:
    rows = {("t", "b"): (pack({"x": 1}), 7), ("t", "a"): (pack(None), 8), ("s", "z"): (b"\xc4\x01v", 9)}
    addresses = ["s\0z", "t\0a", "t\0b"]
    values = [rows["s", "z"][0], rows["t", "a"][0], rows["t", "b"][0]]
    columns = Columns(addresses, values, [9, 8, 7], [0, 0, 0])
    assert content_digest(rows) == digest(content_bytes(columns)).hex()
    assert content_digest(rows) != content_digest({**rows, ("t", "a"): (pack(None), 6)})


@pytest.mark.parametrize(
    "found",
    [
        {},
        {("t", "a"): (pack(1), 5)},
        {("t", "a"): (pack(1), 5), ("t", "b"): (pack(2), 6)},
        {("t", "a"): (pack(1), 5), ("t", "b"): (pack(3), 7)},
        {("t", "a"): (pack(1), 5), ("t", "b"): (pack(2), 7), ("t", "c"): (pack(2), 7)},
    ],
)
def test_a_difference_is_seen(found: dict[tuple[str, str], tuple[bytes, int]]) -> None:
    expected = {("t", "a"): (pack(1), 5), ("t", "b"): (pack(2), 7)}
    assert differences(expected, expected) is None
    assert differences(expected, found) is not None


def test_values_are_packed_as_clients_pack_them() -> None:
    assert pack({"name": "Zürich", "n": 1.5}) == msgpack.packb({"name": "Zürich", "n": 1.5})
