"""The server program: what ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neumann.cli import server
from neumann.errors import NeumannError
from neumann.format.message import Envelope, VoteRequest, encode
from tests.runtime.nodes import config_of, one_node, put, until


async def test_an_error_that_nobody_handled_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop only logged it, and the node went on with whatever state it had left."""
    async with one_node(config_of(tmp_path)) as node:
        server.watch_callbacks(node)
        assert node.member is not None

        def raises(**_: object) -> None:
            raise AssertionError("what never happens")

        monkeypatch.setattr(node.member.duties, "look", raises)
        await until(node.failed.done, "the node has ended")
        assert "what never happens" in str(node.failed.result())
        with pytest.raises(NeumannError):
            await node.write(put("a"))
        asyncio.get_running_loop().set_exception_handler(None)


async def test_errors_of_other_callbacks_are_none_of_the_node(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        server.watch_callbacks(node)
        asyncio.get_running_loop().call_soon(int, "no number")
        await node.write(put("a"))
        assert not node.failed.done()
        asyncio.get_running_loop().set_exception_handler(None)


async def test_an_error_that_a_peer_s_message_brings_about_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network only closed the connection, and the core went on with half of a step done."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        own = member.identity

        def raises(*_: object) -> None:
            raise AssertionError("what never happens")

        monkeypatch.setattr(member.raft, "step", raises)
        request = VoteRequest(1, 0, 0, True, False)
        payload = encode(Envelope(own.cluster_id, own.timeline, "n2", b"s" * 16, request))
        with pytest.raises(AssertionError):
            node.on_message(payload, lambda _: None)
        assert "what never happens" in str(node.failed.result())
