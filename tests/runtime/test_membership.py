"""Membership on real nodes: votes bind to storages, replacement, removal, promotion, transfer."""

from __future__ import annotations

from pathlib import Path

from neumann.format import message as message_format
from neumann.format.message import Envelope, VoteReply, VoteRequest
from tests.runtime.nodes import config_of, one_node, until


async def test_two_storages_of_one_node_id_do_not_get_one_vote_each(tmp_path: Path) -> None:
    """A vote request was believed by its node id alone: a replaced member's old disk got a vote that its
    successor had, in the same term."""
    async with one_node(config_of(tmp_path)) as node:
        assert node.member is not None
        own, raft = node.member.identity, node.member.raft
        request = VoteRequest(raft.term + 5, raft.last.index + 1000, raft.term + 4, False, True)
        answers: list[bytes] = []
        for storage_id in (b"old" + bytes(13), b"new" + bytes(13)):
            envelope = Envelope(own.cluster_id, own.timeline, "n2", storage_id, request)
            node.on_message(message_format.encode(envelope), answers.append)
        await until(lambda: len(answers) == 2, "two answers")
        replies = [message_format.decode(payload).message for payload in answers]
        assert replies == [
            VoteReply(request.term, True, False, b"old" + bytes(13)),
            VoteReply(request.term, False, False, b"new" + bytes(13)),
        ]
