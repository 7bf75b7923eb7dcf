"""Run an operator's shell command (archive_command): one process group, a time limit, its last words.

Exit 0 and only 0 is success. Every other end has a reason, so that each can be counted. The command has
ended when its shell has; what it left running in its group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from neumann.env.doors import CommandEnd

_STDERR_TAIL_BYTES = 2000
_READ_BYTES = 65536
_LAST_WORDS_S = 0.2
"""So long standard error is read on after the end: who left the group may hold it open for ever."""
_NOT_FOUND_STATUS = 127
_NOT_EXECUTABLE_STATUS = 126


async def run_command(command: str, directory: str, timeout_s: float) -> CommandEnd:
    """Run `command` with /bin/sh in `directory`. Cancelling kills its process group too."""
    try:
        return await _run(command, directory, timeout_s)
    except OSError as error:
        return CommandEnd("exec", -1, str(error))


async def _run(command: str, directory: str, timeout_s: float) -> CommandEnd:
    read_end, write_end = os.pipe()
    said = _LastWords(read_end)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                command,
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        return await _end_of(process, said, timeout_s)
    finally:
        said.close()


async def _end_of(process: asyncio.subprocess.Process, said: _LastWords, timeout_s: float) -> CommandEnd:
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        return CommandEnd("timeout", -1, f"no end within {timeout_s:g} s; killed")
    finally:
        await _kill_group(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await said.ended.wait()
    status = process.returncode
    assert status is not None
    return CommandEnd(_reason(status), status, said.tail.decode(errors="replace").strip())


class _LastWords:
    """The end of what comes over a pipe of our own: asyncio's would make `wait` wait for all its writers.

    Its descriptor is closed here and once. uvloop's transport of a pipe closes it twice: the second time it
    may be a file that another thread has opened meanwhile.
    """

    def __init__(self, read_end: int) -> None:
        self.tail = bytearray()
        self.ended = asyncio.Event()
        self._read_end = read_end
        self._loop = asyncio.get_running_loop()
        os.set_blocking(read_end, False)
        self._loop.add_reader(read_end, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return
        self.tail += data
        del self.tail[:-_STDERR_TAIL_BYTES]
        if not data:
            self._loop.remove_reader(self._read_end)
            self.ended.set()

    def close(self) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)


def _reason(status: int) -> str:
    if status == 0:
        return "ok"
    if status < 0 or status > 128:
        return "signal"
    if status == _NOT_FOUND_STATUS:
        return "not_found"
    return "exec" if status == _NOT_EXECUTABLE_STATUS else "exit"


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await process.wait()
