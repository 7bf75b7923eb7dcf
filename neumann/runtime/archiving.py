"""Joins the archiver to a member: what it may archive, what it proposes, and how far behind it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from neumann.archive.archiver import Archiver, Settings
from neumann.env import Env
from neumann.errors import OutcomeUnknown
from neumann.format.history import History
from neumann.format.manifest import Archiving
from neumann.format.names import Paths
from neumann.format.special import Archived, Break
from neumann.runtime.member import Member
from neumann.wal import SegmentInfo


class MemberLog:
    """archive.ArchivedLog of a running member."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def archiving(self) -> Archiving:
        return self._member.applier.state.archiving

    def history(self) -> History:
        return self._member.manifest.history

    def first_retained_index(self) -> int:
        return self._member.wal.base.index + 1

    def sealed_segments(self, after_index: int) -> Sequence[SegmentInfo]:
        member = self._member
        reached = min(member.raft.commit_index, member.raft.durable_index)
        return [s for s in member.wal.segments() if s.sealed and after_index < s.last_index <= reached]

    def oldest_client_time_ns(self, after_index: int) -> int:
        return self._member.lag.oldest_behind(after_index)

    async def propose(self, special: Archived | Break) -> int:
        if not self._member.leads:
            raise OutcomeUnknown("this node does not lead any more")
        return await self._member.proposer.submit_special(special)


class LeaderArchiving:
    """Runs the archiver while this node leads."""

    def __init__(self, env: Env, paths: Paths, member: Member) -> None:
        self.archiver = Archiver(env, paths, MemberLog(member), lambda: _settings(member))
        self._member = member
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """The role may have changed, or a segment may have been sealed."""
        if self._member.leads:
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self.archiver.run())
            self.archiver.wake()
        elif self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Kill the command that runs, if any."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def _settings(member: Member) -> Settings:
    own = member.config.wal
    return Settings(own.archive_command, own.archive_command_timeout_s)
