"""The leader gives committed sealed segments to archive_command, oldest first, one at a time.

The contract is PostgreSQL's (design section 7): exit 0 and only 0 means archived. After each success the
leader proposes `archived`, so what is archived is in the log and never ahead of the truth; nothing else
says how far the archive reaches. The first one switches archiving on (R7) and goes out before anything
is archived. A timeline's history file goes before its first segment: as long as nothing behind the timeline's
base is said to be through, each leader brings it. Later none does, because to the archive it is the stamp
that tells an archive from a directory in whose place nothing is mounted.

A cluster that was made from another one's backup (--as-new-cluster) is often started with that one's
settings, and so with its archive: there a command archives nothing before an operator has said so, once.

`Archiver` lives as long as its node, so its counters do; `run` lives as long as one leadership.
Cancelling it kills the command's process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from neumann.env.doors import CommandEnd, Env
from neumann.env.files import read_file, write_durable
from neumann.errors import NeumannError
from neumann.format import history as history_format
from neumann.format import names
from neumann.format.history import History
from neumann.format.manifest import Archiving
from neumann.format.names import Paths
from neumann.format.special import Archived, Break
from neumann.wal.segment import SegmentInfo

_PLACEHOLDER = re.compile("%([pf%])")
_QUICK_TRIES = 3
_QUICK_RETRY_S = 1.0
_RETRY_S_MAX = 60.0
_PROPOSE_RETRY_S = 1.0
_REASON_CHARS_MAX = 128


class Settings(NamedTuple):
    """What of [wal] rules here; read again before each attempt, so a reload takes effect."""

    command: str
    timeout_s: float


class Brought(NamedTuple):
    """What became of a search for missing entries. A segment that a peer had, in a file of its own; or,
    with an empty path: no voter has the entries up to gone_through, or `silent` ones have not said."""

    path: str = ""
    name: str = ""
    last_index: int = 0
    gone_through: int = 0
    silent: tuple[str, ...] = ()


class ArchivedLog(Protocol):
    """What the archiver needs of its node, all as of now, on the event loop."""

    def archiving(self) -> Archiving:
        """What the applied log says."""
        ...

    def history(self) -> History:
        """Of this cluster."""
        ...

    def first_retained_index(self) -> int:
        """The first index that the own log still holds."""
        ...

    def sealed_segments(self, after_index: int) -> Sequence[SegmentInfo]:
        """Sealed segments, committed to their last entry, with last_index > after_index; oldest first."""
        ...

    async def make_whole(self, path: str) -> bool:
        """Read one of them to its last bit; False where it was damaged and a peer's copy has taken its place.
        Corrupt if that can't be done now."""
        ...

    def client_age_ns(self, after_index: int) -> int:
        """Age of the oldest client entry behind after_index, committed or not; 0 if there is none."""
        ...

    def client_entries(self, after_index: int) -> int:
        """How many client entries lie behind after_index, an end of a segment."""
        ...

    async def bring(self, first_index: int, last_index: int) -> Brought:
        """Look on the peers for entries that the own log has no more; NeumannError or OSError if what
        was found could not be brought."""
        ...

    def force_snapshot(self) -> None:
        """Make and publish a snapshot now: what is behind a break is recovered from it."""
        ...

    def propose(self, special: Archived | Break) -> Awaitable[int]:
        """Propose it and wait until it is committed; its index. NeumannError if it isn't."""
        ...


@dataclass(slots=True)
class ArchiveStatus:
    """What became of the attempts on this node, since it started. Times are 0 for never."""

    files_total: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failures_in_a_row: int = 0
    last_success_ns: int = 0
    last_failure_ns: int = 0
    last_file: str = ""
    last_error: str = ""


class Lag(NamedTuple):
    """What is not in the archive yet: sealed segments and their bytes, client entries, and the age of
    the oldest of those."""

    segments: int
    bytes: int
    entries: int
    seconds: float


def is_held(history: History, archiving: Archiving) -> bool:
    """Whether archiving waits for an operator: nobody ever had it on in a cluster that began as a copy."""
    return archiving == Archiving() and history.records[0].base_index > 0


def substitute(command: str, path: str, name: str) -> str:
    """The shell command that archives this file: %p is its path, %f its name, %% a percent sign.

    The configuration has refused any other placeholder.
    """
    values = {"p": path, "f": name, "%": "%"}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], command)


class Archiver:
    """See the module. `run` once for each leadership; `wake` when there may be something to do."""

    def __init__(self, env: Env, paths: Paths, log: ArchivedLog, settings: Callable[[], Settings]) -> None:
        self.status = ArchiveStatus()
        self._env = env
        self._paths = paths
        self._log = log
        self._settings = settings
        self._wakened = asyncio.Event()
        self._pushed_through = 0
        self._is_asked = False
        self._is_retry_due = False

    @property
    def is_held(self) -> bool:
        """Whether nothing is archived here before somebody calls `begin`."""
        return not self._is_asked and is_held(self._log.history(), self._log.archiving())

    def begin(self) -> None:
        """An operator wants it: the archive is this cluster's own. In the log once archiving is on."""
        self._is_asked = True
        self.wake()

    def wake(self) -> None:
        """A segment was sealed or committed, or the settings have changed: look at once."""
        self._wakened.set()

    def retry(self) -> None:
        """An operator waits, who may have mended what failed: try again at once."""
        self._is_retry_due = True
        self.wake()

    def lag(self) -> Lag:
        """What the archive lacks now; on any node, as far as its own log tells."""
        archiving = self._log.archiving()
        waiting = self._log.sealed_segments(archiving.through)
        seconds = self._log.client_age_ns(archiving.through) / 1e9
        entries = self._log.client_entries(archiving.through)
        return Lag(len(waiting), sum(segment.bytes for segment in waiting), entries, seconds)

    async def give_up_waiting(self, reason: str) -> None:
        """Declare that what waits now is never archived: an operator has set that bound (R7)."""
        through = self._log.archiving().through
        waiting = self._log.sealed_segments(through)
        if waiting:
            await self._break(through + 1, waiting[-1].last_index, reason[:_REASON_CHARS_MAX])
            self.wake()

    async def run(self) -> None:
        """Archive until cancelled. The caller is leader, with a committed entry of its own term."""
        self.status.failures_in_a_row = 0
        is_history_due = self._is_history_due()
        if not is_history_due:
            self._lay_out_history()
        dropped = 0
        while True:
            self._wakened.clear()
            if not self._settings().command or self.is_held:
                await self._wakened.wait()
                continue
            if not self._log.archiving().on:
                dropped = self._log.first_retained_index() - 1
                await self._begin(dropped)
            elif is_history_due:
                is_history_due = not await self._push_history()
            elif self._log.archiving().through < dropped:
                await self._propose(dropped)
            elif not await self._push_oldest():
                await self._wakened.wait()

    async def _begin(self, dropped: int) -> None:
        """Switch archiving on. What was dropped while it was stopped is declared first, so that it is never
        called archived. What was dropped before it ever was on is left out; that is said behind the history,
        which is due as long as nothing is through."""
        through, base_index = self._log.archiving().through, self._log.history().base.index
        if base_index < through < dropped:
            await self._break(through + 1, dropped, "archiving was off, and the log is gone")
        else:
            await self._propose(max(through, base_index))

    def _is_history_due(self) -> bool:
        """Nothing of this timeline is archived yet. Later each manifest has the history as well."""
        archiving = self._log.archiving()
        return not archiving.on or archiving.through <= self._log.history().base.index

    def _write_history(self) -> str:
        """Where it lies on this node, durably."""
        history = self._log.history()
        path = f"{self._paths.raft}/{names.history_name(history.timeline)}"
        data = history_format.encode(history)
        if not self._env.disk.exists(path) or read_file(self._env.disk, path) != data:
            write_durable(self._env.disk, path, data)
        return path

    def _lay_out_history(self) -> None:
        """For the person that `wal-push` asks whether an archive shall begin. Nothing waits for it."""
        try:
            self._write_history()
        except (NeumannError, OSError) as error:
            self.status.last_error = f"the history file could not be written: {error}"

    async def _push_history(self) -> bool:
        name = names.history_name(self._log.history().timeline)
        try:
            path = self._write_history()
        except (NeumannError, OSError) as error:
            await self._failed("disk", name, str(error))
            return False
        return await self._push(path, name)

    async def _push_oldest(self) -> bool:
        """Archive the oldest segment that waits; False if there is none. A failure has been waited out."""
        through = self._log.archiving().through
        if self._pushed_through > through:
            await self._propose(self._pushed_through)
            return True
        waiting = self._log.sealed_segments(through)
        begin = waiting[0].first_index if waiting else self._log.first_retained_index()
        if begin > through + 1:
            await self._fill(through + 1, begin - 1)
            return True
        if not waiting:
            return False
        oldest = waiting[0]
        try:
            await self._log.make_whole(oldest.path)
            is_done = await self._push(oldest.path, oldest.name)
            # What is whole now was whole while the command read it; else it has to read it again.
            is_done = is_done and await self._log.make_whole(oldest.path)
        except (NeumannError, OSError) as error:
            await self._failed("damaged", oldest.name, str(error))
            return True
        if is_done:
            self._pushed_through = oldest.last_index
            await self._propose(oldest.last_index)
        return True

    async def _fill(self, first: int, last: int) -> None:
        """Entries that the own log has no more: archive them from a peer, or declare them gone."""
        name = names.segment_name(self._log.history().timeline, first)
        try:
            brought = await self._log.bring(first, last)
        except (NeumannError, OSError) as error:
            await self._failed("missing", name, f"a peer has it, and it could not be brought: {error}")
            return
        if brought.path:
            if await self._push(brought.path, brought.name):
                self._pushed_through = brought.last_index
                self._env.disk.unlink(brought.path)
                await self._propose(brought.last_index)
        elif brought.silent:
            where = f"and {', '.join(brought.silent)} did not say whether they have them"
            text = f"entries {first}..{last} are neither archived nor in the log here, {where}"
            await self._failed("missing", name, text)
        else:
            await self._break(first, brought.gone_through, "no voter has them any more")

    async def _break(self, first: int, last: int, reason: str) -> None:
        """Declare that these entries are in no archive. A snapshot behind them is where recovery begins."""
        if await self._say(Break(first, last, reason)):
            self._log.force_snapshot()

    async def _push(self, path: str, name: str) -> bool:
        """Run the command for one file; True if it ended with 0. A failure has been waited out."""
        settings = self._settings()
        command = substitute(settings.command, path, name)
        end: CommandEnd = await self._env.run_command(command, self._paths.root, settings.timeout_s)
        status = self.status
        if end.reason != "ok":
            said = end.stderr_tail.splitlines()[-1] if end.stderr_tail else f"exit status {end.status}"
            await self._failed(end.reason, name, said)
            return False
        status.failures_in_a_row = 0
        status.files_total += 1
        status.last_success_ns = self._env.clock.wall_ns()
        status.last_file = name
        status.last_error = ""
        return True

    async def _failed(self, reason: str, name: str, said: str) -> None:
        """Count a failure and wait: a second at first, then longer and longer, up to a minute; or until an
        operator asks, or the settings change."""
        self.status.failures_in_a_row += 1
        self.status.failures[reason] += 1
        self.status.last_failure_ns = self._env.clock.wall_ns()
        self.status.last_error = f"{name}: {reason}: {said}"
        over = self.status.failures_in_a_row - _QUICK_TRIES
        pause_s = _QUICK_RETRY_S if over < 0 else min(_RETRY_S_MAX, 2.0 ** (over + 1))
        settings = self._settings()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                while not self._is_retry_due and self._settings() == settings:
                    self._wakened.clear()
                    await self._wakened.wait()
        self._is_retry_due = False

    async def _propose(self, through: int) -> None:
        """Say in the log that everything up to there is archived."""
        await self._say(Archived(through))

    async def _say(self, entry: Archived | Break) -> bool:
        """Propose it; what was proposed in vain is repeated by who called."""
        try:
            await self._log.propose(entry)
        except NeumannError as error:
            self.status.last_error = f"{entry} is not yet in the log: {error}"
            await asyncio.sleep(_PROPOSE_RETRY_S)
            return False
        return True
