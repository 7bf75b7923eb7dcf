"""Archivers that retry at once; another host and an object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from neumann.archive import archiver
from neumann.env import Env, real_env
from tests import distant
from tests.archive.archiving import Log, RealLog, World


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Env]:
    """Real doors, and short pauses between attempts."""
    monkeypatch.setattr(archiver, "_QUICK_RETRY_S", 0.01)
    monkeypatch.setattr(archiver, "_RETRY_S_MAX", 0.05)
    monkeypatch.setattr(archiver, "_PROPOSE_RETRY_S", 0.01)
    doors = real_env()
    yield doors
    await doors.net.close()
    await doors.jobs.close()


@pytest.fixture
def world(tmp_path: Path, env: Env) -> World:
    """Segments are any files."""
    return World(tmp_path, env, Log(tmp_path))


@pytest.fixture
def real(tmp_path: Path, env: Env) -> World:
    """Segments are a real log's; `log` is a RealLog."""
    return World(tmp_path, env, RealLog(tmp_path))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[distant.SshHost]:
    """`backup:`, this machine by way of an sshd."""
    with distant.ssh_host(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="session")
def bucket() -> Iterator[distant.Store]:
    """s3://backups."""
    with distant.store() as found:
        yield found
