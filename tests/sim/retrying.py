"""A client with a session: what it does not know the end of it sends again, under the same serial.

It goes through another node each time, sometimes through two at once, and now and then repeats what was
answered long ago. What it is told goes to checkers/sessions.py besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from neumann.errors import NeumannError, OutcomeUnknown, StorageFailed
from neumann.format import command
from neumann.format.limits import SESSIONS_MAX
from tests.sim.checkers.clients import Operation
from tests.sim.checkers.sessions import Answer, Sessions
from tests.sim.clients import AFTER_FAILURE_S, KEY_COUNT, Client, Setting
from tests.sim.model import APPLIED, SERIAL_FORGOTTEN, SESSION_EXPIRED

TRIES_MAX = 8
REMEMBERED_MAX = 200


class RetryingClient(Client):
    """One client, one session at a time, one command at a time."""

    def __init__(self, setting: Setting, sessions: Sessions) -> None:
        super().__init__(setting)
        self._sessions = sessions
        self._session = 0
        self._number = 0
        self._sent: list[tuple[int, int, bytes]] = []

    def _choose(self) -> Callable[[], Awaitable[bool]]:
        kind = self._random.random()
        if kind < 0.3:
            return super()._choose()
        if not self._session or kind < 0.31:
            return self._open
        if kind < 0.311:
            return self._crowd_out
        return self._repeat if kind < 0.4 and self._sent else self._write_in_session

    async def _open(self) -> bool:
        try:
            index, outcome = await self._call("write", [command.encode_open()])
        except NeumannError as error:
            self._note("open", type(error).__name__)
            return False
        self._sessions.opened(index, outcome)
        self._session, self._number = (index, 0) if outcome == APPLIED else (0, 0)
        self._note("open", index, outcome)
        return True

    async def _crowd_out(self) -> bool:
        """So many sessions are opened that those not used meanwhile are forgotten."""
        try:
            await self._call("writes", [[command.encode_open()] * (SESSIONS_MAX - 2)])
        except NeumannError as error:
            self._note("crowd out", type(error).__name__)
            return False
        self._note("crowd out")
        return True

    async def _write_in_session(self) -> bool:
        self._serial += 1
        self._number += 1
        session, serial = self._session, self._number
        key = f"k{self._random.randrange(KEY_COUNT)}"
        raw = command.with_session(self._command(key), session, serial)
        text = f"write {self._name}/{self._serial}, {serial} of session {session}"
        operation = self._checker.begin_write(text, raw, may_repeat=True)
        answer, was_refused = await self._until_known(operation, session, serial)
        if not was_refused:
            self._sent = [*self._sent[-REMEMBERED_MAX:], (session, serial, raw)]
        if answer is None:
            return False
        self._revisions[key] = answer[0]
        return True

    async def _until_known(
        self, operation: Operation, session: int, serial: int
    ) -> tuple[Answer | None, bool]:
        """(its answer, or None where nobody told; whether it was refused, and so must not be repeated)."""
        is_unknown = False
        for _ in range(TRIES_MAX):
            answer, error = await self._send(session, serial, operation.command)
            if answer is not None:
                is_forgotten = answer[1] in (SESSION_EXPIRED, SERIAL_FORGOTTEN)
                if is_forgotten:
                    self._session = 0
                if is_forgotten and is_unknown:
                    self._checker.end_unknown(operation)
                    return None, False
                self._checker.end_write(operation, *answer)
                return answer, False
            assert error is not None
            is_unknown |= isinstance(error, OutcomeUnknown | StorageFailed)
            if not is_unknown:
                self._failed(operation, error)
                return None, True
            self._address = self._random.choice(self._addresses)
            await asyncio.sleep(AFTER_FAILURE_S)
        self._checker.end_unknown(operation)
        return None, False

    async def _repeat(self) -> bool:
        """A late copy of what may have been answered long ago."""
        answer, _ = await self._send(*self._random.choice(self._sent))
        return answer is not None

    async def _send(self, session: int, serial: int, raw: bytes) -> tuple[Answer | None, NeumannError | None]:
        """One copy, or two through two nodes at once: an answer, or the error that leaves most open."""
        addresses = [self._address]
        if self._random.random() < 0.2:
            addresses.append(self._random.choice(self._addresses))
        calls = [self._net.call(address, "write", [raw], 3.0) for address in addresses]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        answers, errors = [], list[NeumannError]()
        for end in ended:
            if isinstance(end, NeumannError):
                errors.append(end)
            elif isinstance(end, BaseException):
                raise end
            else:
                answers.append((int(end[0]), int(end[1])))
        self._note(f"serial {serial} of session {session}", *addresses, *answers, *map(str, errors))
        for answer in answers:
            self._sessions.answered(session, serial, raw, answer)
        errors.sort(key=lambda error: isinstance(error, OutcomeUnknown | StorageFailed))
        return answers[0] if answers else None, errors[-1] if errors else None
