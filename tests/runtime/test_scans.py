"""Pages of a scan: each fits into an answer, and together they are all rows."""

from __future__ import annotations

from pathlib import Path

import pytest

import neumann
from neumann.format import limits, rpc
from tests.runtime.nodes import config_of, one_node, put, write_rows

VALUE = "x" * 200_000
ROWS = 300
ANSWER_ENVELOPE_BYTES = 1024


@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_are_bounded_in_bytes(tmp_path: Path, reverse: bool) -> None:
    """A page of a thousand rows was made whatever their size; no client could take such an answer."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(ROWS), VALUE)
        keys: list[str] = []
        start = stop = ""
        while True:
            page = await node.scan("t", start=start, stop=stop, limit=1000, reverse=reverse)
            assert page.rows
            packed = len(rpc.pack(page.rows))
            assert packed + ANSWER_ENVELOPE_BYTES < limits.RPC_MESSAGE_BYTES_MAX
            keys += [row[0] for row in page.rows]
            if not page.cursor:
                break
            start, stop = (start, page.cursor) if reverse else (page.cursor, stop)
        assert keys == sorted((f"{key:05d}" for key in range(ROWS)), reverse=reverse)


async def test_a_row_larger_than_a_page_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with one_node(config_of(tmp_path)) as node:
        monkeypatch.setattr("neumann.runtime.scans._PAGE_BYTES_AIM", 10)
        await node.write(put("a", "x" * 50))
        await node.write(put("b", "x" * 50))
        page = await node.scan("t")
        assert [row[0] for row in page.rows] == ["a"] and page.cursor == "b"
        page = await node.scan("t", start=page.cursor)
        assert [row[0] for row in page.rows] == ["b"] and page.cursor == ""


async def test_a_client_scans_large_rows(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with one_node(config) as node, neumann.connect(config.node.listen) as db:
        await write_rows(node, range(ROWS), VALUE)
        assert [row.key async for row in db.scan("t")] == [f"{key:05d}" for key in range(ROWS)]


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_prefix_has_all_keys_that_begin_with_it(tmp_path: Path, reverse: bool) -> None:
    """The end of a prefix was taken for prefix + U+10FFFF, and keys with that character were left out."""
    keys = ["a", "a\U0010ffff", "a\U0010ffffb", "a\ud7ff", "a\ue000", "b"]
    async with one_node(config_of(tmp_path)) as node:
        for key in keys:
            await node.write(put(key))
        for prefix in ("a", "a\U0010ffff", "a\ud7ff", ""):
            page = await node.scan("t", prefix=prefix, reverse=reverse)
            wanted = sorted((key for key in keys if key.startswith(prefix)), reverse=reverse)
            assert [row[0] for row in page.rows] == wanted
