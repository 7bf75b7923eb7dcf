"""Archivers that retry at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from neumann.archive import archiver
from neumann.env import Env, real_env
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
