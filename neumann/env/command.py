"""Run an operator's shell command (archive_command): one process group, a time limit, its last words.

Exit 0 and only 0 is success. Every other end has a reason, so that each can be counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from neumann.env.doors import CommandEnd

_STDERR_TAIL_BYTES = 2000
_NOT_FOUND_STATUS = 127
_NOT_EXECUTABLE_STATUS = 126


async def run_command(command: str, directory: str, timeout_s: float) -> CommandEnd:
    """Run `command` with /bin/sh in `directory`. Cancelling kills its process group too."""
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return CommandEnd("exec", -1, str(error))
    try:
        async with asyncio.timeout(timeout_s):
            _, stderr = await process.communicate()
    except TimeoutError:
        return CommandEnd("timeout", -1, f"no end within {timeout_s:g} s; killed")
    finally:
        await _kill_group(process)
    status = process.returncode
    assert status is not None
    tail = stderr[-_STDERR_TAIL_BYTES:].decode(errors="replace").strip()
    return CommandEnd(_reason(status), status, tail)


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
