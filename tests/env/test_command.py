"""An operator's command: when it has ended, and what is kept of what it said."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from neumann.env.command import run_command
from neumann.env.doors import CommandEnd

RUNNERS: list[Callable[[Coroutine[Any, Any, CommandEnd]], CommandEnd]] = [asyncio.run, uvloop.run]


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize(
    ("command", "reason", "status", "said"),
    [
        ("true", "ok", 0, ""),
        ("echo why >&2; exit 3", "exit", 3, "why"),
        ("no-such-program", "not_found", 127, "no-such-program"),
        ("kill -9 $$", "signal", -9, ""),
        ("sleep 60", "timeout", -1, "killed"),
        ("yes >&2", "timeout", -1, "killed"),
        ("seq 1000000 >&2; exit 1", "exit", 1, "1000000"),
    ],
)
def test_every_end_has_its_reason(
    run: Callable[[Coroutine[Any, Any, CommandEnd]], CommandEnd],
    tmp_path: Path,
    command: str,
    reason: str,
    status: int,
    said: str,
) -> None:
    end = run(run_command(command, str(tmp_path), 1.0))
    assert (end.reason, end.status) == (reason, status)
    assert said in end.stderr_tail and len(end.stderr_tail) < 10_000


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("beside", ["sleep 60 &", "setsid sleep 3 &"])
def test_a_command_has_ended_when_its_shell_has(
    run: Callable[[Coroutine[Any, Any, CommandEnd]], CommandEnd], tmp_path: Path, beside: str
) -> None:
    """What a command left running held its standard error open, and was waited for until the time limit
    (a kept ssh connection is such a thing)."""
    end = run(run_command(f"{beside} echo done >&2; exit 0", str(tmp_path), 2.0))
    assert end == CommandEnd("ok", 0, "done")


def test_a_command_closes_no_file_of_another_thread(tmp_path: Path) -> None:
    """Bug: the pipe of its last words was closed twice, and the second time it was a file that another thread
    had opened meanwhile: a node wrote a snapshot into nothing, or read another file in a table's place."""
    strange: list[OSError] = []
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            try:
                fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
                for fd in fds:
                    os.close(fd)
            except OSError as error:
                strange.append(error)
                return

    async def run_many() -> None:
        for _ in range(150):
            assert (await run_command("true", str(tmp_path), 10.0)).reason == "ok"

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        uvloop.run(run_many())
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not strange
