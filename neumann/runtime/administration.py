"""`admin.<verb>`: what an operator asks, by name and with a mapping of values, done on the leader.

runtime/node.py and the network give both; the operations themselves are in operations.py,
archive_operations.py and member_operations.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from neumann.archive.archiver import Archiver
from neumann.errors import BadInput, OutcomeUnknown
from neumann.runtime import archive_operations, member_operations, operations, views
from neumann.runtime.member import Member

_SECONDS_MAX = 7 * 86_400
MARGIN_S = 2.0
"""Until an operation is ended from outside that did not end itself in its time."""


async def administer(member: Member, archiver: Archiver, verb: str, asked: dict[str, Any]) -> Any:
    """One operation, on this node, which must lead; it may lead nobody, so the wait has an end."""
    timeout_s = _seconds(asked, "timeout_s", 30.0)
    try:
        async with asyncio.timeout(timeout_s + MARGIN_S):
            return await _operate(member, archiver, verb, asked, timeout_s)
    except TimeoutError:
        raise OutcomeUnknown(
            f"{verb} has not ended after {timeout_s:g} s; it may go on", remedy="look, then try again"
        ) from None


async def _operate(
    member: Member, archiver: Archiver, verb: str, asked: dict[str, Any], timeout_s: float
) -> Any:
    match verb:
        case "snapshot":
            return await operations.snapshot(member, timeout_s)
        case "pause":
            owner, reason, max_s = _text(asked, "owner"), _text(asked, "reason"), _seconds(asked, "max_s")
            return await operations.pause_writes(member, owner, max_s, reason, timeout_s)
        case "resume":
            return await operations.resume_writes(member)
        case "restore_point":
            wait_s = timeout_s if asked.get("wait") is True else 0.0
            return await archive_operations.name_point(member, _text(asked, "name"), wait_s)
        case "archive_flush":
            return await archive_operations.flush(member, archiver, timeout_s)
        case "archive_check":
            begin = asked.get("begin") is True
            return await archive_operations.check(member, archiver, timeout_s, begin=begin)
        case "archive_stop":
            return await archive_operations.stop(member, _text(asked, "reason"))
        case "members":
            return member_operations.membership(member)
        case "member_add":
            node_id, address = _text(asked, "id"), _text(asked, "address")
            return await member_operations.add(member, node_id, address, asked.get("learner") is True)
        case "member_promote":
            return await member_operations.promote(member, _text(asked, "id"))
        case "member_remove":
            return await member_operations.remove(member, _text(asked, "id"))
        case "leader_transfer":
            return await member_operations.transfer(member, _text(asked, "to"), timeout_s)
        case "status":
            return views.status(member, archiver)
        case "barrier":
            return await member.reader.barrier()
    raise BadInput(f"admin.{verb} is no method of this server")


def _seconds(asked: dict[str, Any], key: str, default: float | None = None) -> float:
    value = asked.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _SECONDS_MAX:
        return float(value)
    raise BadInput(f"{key} is {value!r:.40}", remedy=f"a number of seconds above 0, at most {_SECONDS_MAX}")


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if isinstance(value, str):
        return value
    raise BadInput(f"{key} is {value!r:.40}", remedy="it is text")
