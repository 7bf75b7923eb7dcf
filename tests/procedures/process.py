"""A program that we started: its output in a file, its CPU time, its end.

Only ever addressed by its own handle, never by a name. It stays in our process group, so that an
interrupt from the keyboard reaches it and the scheduler treats all nodes alike.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_TIMEOUT_S = 15.0
_POLL_S = 0.02
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class StartFailed(Exception):
    """A program ended, or did not become ready in time; the text has the last lines of its log."""


class Process:
    """Started at once; `log` is appended to."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._was_asked = False
        with log.open("ab") as output:
            self._handle = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ) if environ is not None else None,
            )

    @property
    def pid(self) -> int:
        return self._handle.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._handle.poll()

    def send(self, number: signal.Signals) -> None:
        if self.exit_code() is None:
            self._handle.send_signal(number)

    def send_stop(self) -> None:
        """SIGTERM, once; `stop` waits for the end."""
        if not self._was_asked:
            self._was_asked = True
            self.send(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM and wait; SIGKILL where that takes longer than `timeout_s`. Returns the exit code."""
        self.send_stop()
        try:
            return self._handle.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL and wait."""
        self.send(signal.SIGKILL)
        return self._handle.wait()

    def wait(self, timeout_s: float) -> int:
        """Its exit code, when it ends by itself; TimeoutExpired otherwise."""
        return self._handle.wait(timeout_s)

    def log_tail(self, lines: int = 12) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Poll `ready`; StartFailed if the program ends first or `timeout_s` passes."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.exit_code() is not None:
                raise StartFailed(f"{self.name} ended with {self.exit_code()}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name}: not {what} within {timeout_s:g} s:\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def cpu_seconds(self) -> float:
        """User and system time of it and of its living and ended children."""
        return cpu_seconds(self.pid)


def cpu_seconds(root: int) -> float:
    """User and system time of a process and of its living and ended children."""
    return sum(_cpu_ticks(pid) for pid in _tree(root)) / _TICKS_PER_S


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in _read(children).split()]
    return found


def _cpu_ticks(pid: int) -> int:
    # Behind the name in parentheses, which may hold spaces, utime is the 12th field.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it ended meanwhile
