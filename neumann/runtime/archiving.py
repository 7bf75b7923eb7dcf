"""Joins the archiver to a member: what it may archive, what it proposes, how far behind it may be."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Sequence
from functools import partial

from neumann.archive.archiver import Archiver, Brought, Settings
from neumann.env import Env
from neumann.errors import BackPressure, Corrupt, NeumannError, OutcomeUnknown
from neumann.format.history import History
from neumann.format.manifest import Archiving
from neumann.format.names import Paths
from neumann.format.special import Archived, Break
from neumann.runtime import missing
from neumann.runtime.member import Member
from neumann.wal import SegmentInfo

_GATE_NS = 100_000_000


class MemberLog:
    """archive.ArchivedLog of a running member."""

    def __init__(self, env: Env, member: Member) -> None:
        self._member = member
        self._lane = env.lane("archive")

    def archiving(self) -> Archiving:
        return self._member.applier.state.archiving

    def history(self) -> History:
        return self._member.manifest.history

    def first_retained_index(self) -> int:
        return self._member.wal.base.index + 1

    def sealed_segments(self, after_index: int) -> Sequence[SegmentInfo]:
        return missing.sealed(self._member, after_index)

    async def make_whole(self, path: str) -> bool:
        try:
            await self._lane.run(partial(self._member.settled.read, posixpath.basename(path), path))
        except Corrupt as error:
            if not await self._member.repair.mend(error):
                raise
            return False
        return True

    def client_age_ns(self, after_index: int) -> int:
        clock = self._member.env.clock
        return self._member.lag.age_behind_ns(after_index, clock.wall_ns(), clock.monotonic_ns())

    def client_entries(self, after_index: int) -> int:
        return self._member.lag.entries_behind(after_index)

    async def bring(self, first_index: int, last_index: int) -> Brought:
        return await missing.bring(self._member, self._lane, first_index, last_index)

    def force_snapshot(self) -> None:
        if self._member.leads and self._member.applier.state.pause is None:
            self._member.duties.propose_marker(snapshot=True, asked=True)

    async def propose(self, special: Archived | Break) -> int:
        if not self._member.leads:
            raise OutcomeUnknown("this node does not lead any more")
        return await self._member.proposer.submit_special(special)

    def close(self) -> None:
        """The node ends."""
        self._lane.close()


class LeaderArchiving:
    """Runs the archiver while this node leads, and holds writes back beyond the bounds of [wal]."""

    def __init__(self, env: Env, paths: Paths, member: Member) -> None:
        self._log = MemberLog(env, member)
        self.archiver = Archiver(env, paths, self._log, lambda: _settings(member))
        self._clock = env.clock
        self._member = member
        self._task: asyncio.Task[None] | None = None
        self._breaking: asyncio.Task[None] | None = None
        self._refusal: NeumannError | None = None
        self._judged_ns = -_GATE_NS
        member.archive_gate = self.gate

    def look(self) -> None:
        """The role may have changed, or a segment may have been sealed."""
        if self._member.leads:
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self.archiver.run())
            self.archiver.wake()
        elif self._task is not None:
            self._task.cancel()
            self._task = None

    def gate(self) -> NeumannError | None:
        """Why the archive's lag refuses client writes, or None (R1); judged ten times a second."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._judged_ns >= _GATE_NS:
            self._judged_ns = now_ns
            self._refusal = self._judge()
        return self._refusal

    def _judge(self) -> NeumannError | None:
        own = self._member.config.wal
        if not self._log.archiving().on or not (own.archive_backlog_bytes_max or own.archive_lag_max_s):
            return None
        lag = self.archiver.lag()
        why = self.archiver.status.last_error or "archive_command has not ended yet"
        if 0 < own.archive_lag_max_s < lag.seconds:
            text = f"the archive is {lag.seconds:.1f} s behind, above the {own.archive_lag_max_s:g} s allowed"
            return BackPressure(f"{text}: {why}", remedy="writes go on by themselves when it catches up")
        if not 0 < own.archive_backlog_bytes_max < lag.bytes:
            return None
        text = f"{lag.bytes} bytes of log wait for the archive, above archive_backlog_bytes_max"
        if own.archive_backlog_action == "break":
            self._break(f"{text} {own.archive_backlog_bytes_max}")
            return None
        text = f"{text} {own.archive_backlog_bytes_max}: {why}"
        return BackPressure(text, remedy="writes go on by themselves when it catches up")

    def _break(self, reason: str) -> None:
        if self._member.leads and (self._breaking is None or self._breaking.done()):
            self._breaking = asyncio.get_running_loop().create_task(self.archiver.give_up_waiting(reason))

    async def close(self) -> None:
        """Kill the command that runs, if any."""
        tasks = [task for task in (self._task, self._breaking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._log.close()


def _settings(member: Member) -> Settings:
    own = member.config.wal
    return Settings(own.archive_command, own.archive_command_timeout_s)
