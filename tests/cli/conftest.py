"""A real server process, and a way to run `neumann-admin` without a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from neumann.cli import admin as admin_program
from tests.ports import free_ports as take_ports
from tests.procedures.process import Process

NEUMANN = Path(sys.executable).parent / "neumann"
START_TIMEOUT_S = 20.0


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON value."""
        return json.loads(self.out)


class Server:
    """A node on loopback, alone, with short timeouts and an archive."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        rpc, http = take_ports(2)
        self.data_dir = root / "data"
        self.archive = root / "archive"
        self.archive.mkdir()
        self.config = root / "config.toml"
        self.url = f"http://127.0.0.1:{http}"
        self.log = root / "log"
        self.config.write_text(
            f"""
            [node]
            id = "n1"
            data_dir = "{self.data_dir}"
            listen = "127.0.0.1:{rpc}"
            admin_listen = "127.0.0.1:{http}"
            [raft]
            heartbeat_ms = 20
            election_timeout_ms = 100
            [wal]
            segment_bytes_max = "1 MiB"
            archive_command = "cp %p {self.archive}/%f"
            archive_timeout = 600
            """
        )
        self._process: Process | None = None

    def start(self, *flags: str) -> None:
        """Start it and wait until it serves."""
        self._process = Process("n1", [NEUMANN, "--config", self.config, *flags], self.log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._serves():
            assert self._process.exit_code() is None and time.monotonic() < deadline, self._process.log_tail()
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        return self._process.stop()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


Admin = Callable[..., Ended]


def run_admin(words: tuple[object, ...], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Ended:
    """`neumann-admin` with these words, in this process, on a machine with no configuration."""
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("NEUMANN_")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["neumann-admin", *map(str, words)])
        patch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            admin_program.main()
    code = ended.value.code
    assert isinstance(code, int) and 0 <= code <= 125
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    """`admin("get", "t", "k")` with no server to ask."""
    return lambda *words: run_admin(words, {}, monkeypatch)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for the tests of a file."""
    running = Server(tmp_path_factory.mktemp("server"))
    running.start("--bootstrap")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def ask(server: Server, monkeypatch: pytest.MonkeyPatch) -> Admin:
    """`ask("get", "t", "k")` at the running server."""
    return lambda *words: run_admin(words, {"NEUMANN_ADMIN": server.url}, monkeypatch)


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that took ten rows, two snapshots and a restore point, archived them and stopped."""
    root = tmp_path_factory.mktemp("stopped")
    server = Server(root)
    server.start("--bootstrap")
    with pytest.MonkeyPatch.context() as patch:
        environ = {"NEUMANN_ADMIN": server.url}
        for number in range(10):
            assert run_admin(("put", "t", f"k{number}", number), environ, patch).code == 0
            if number == 4:
                assert run_admin(("restore-point", "half"), environ, patch).code == 0
            if number in (2, 6):
                assert run_admin(("snapshot",), environ, patch).code == 0
        assert run_admin(("archive-flush",), environ, patch).code == 0
    assert server.stop() == 0
    return server


@pytest.fixture
def data(stopped: Server, tmp_path: Path) -> Path:
    """A copy of its data directory, hard links kept apart."""
    return Path(shutil.copytree(stopped.data_dir, tmp_path / "data", symlinks=True))


@pytest.fixture
def archive(stopped: Server, tmp_path: Path) -> Path:
    """A copy of its archive."""
    return Path(shutil.copytree(stopped.archive, tmp_path / "archive"))


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.*")}


def flip(path: Path, offset: int) -> None:
    """Damage one bit."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def find(data: Path, pattern: str) -> Path:
    """The first file of that pattern, by name."""
    return sorted(data.glob(pattern))[0]
