"""Writes are refused while no majority of the voters has room, and go on by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.errors import DiskFull
from neumann.runtime.node import Node
from tests.runtime.nodes import cluster, leads, put, until, write_rows


def _say(node: Node, free_bytes: int | None) -> None:
    """Let it tell its peers that so much is free; None: the truth."""
    member = node.member
    assert member is not None
    real = type(member)._status

    def told() -> object:
        status = real(member)
        return status if free_bytes is None else status._replace(free_bytes=free_bytes)

    member.peers._own_status = told  # type: ignore[assignment]


async def test_writes_wait_for_room_on_a_majority(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        first, second = (one.node for one in running if one.node is not leading)
        member = leading.member
        assert member is not None
        object.__setattr__(member.config.store, "disk_free_bytes_min", 1000)
        _say(first, 999)
        await until(lambda: member.peers.states[first.config.node.id].status.free_bytes == 999, "it is told")
        await write_rows(leading, range(5))
        _say(second, 10)
        await until(lambda: member.write_gate() is not None, "two of three are full")
        with pytest.raises(DiskFull, match=r"no majority .* \(10 bytes free\)") as refused:
            await leading.write(put("x"))
        assert "by themselves" in refused.value.remedy and leading.gauges()["disk_full"] == 1
        _say(second, None)
        await until(lambda: member.write_gate() is None, "there is room again")
        await leading.write(put("x"))
        assert leading.gauges()["disk_full"] == 0
