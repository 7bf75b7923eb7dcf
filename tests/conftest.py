"""Fixtures that every package of tests may use: places on a real disk, ports on loopback."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Below Linux's ephemeral range (32768..), so no outgoing connection takes a port that a test was
# given and has not bound yet; the start differs per process, so parallel workers keep apart.
PORT_FIRST, PORT_LAST = 12_000, 32_000
_ports = itertools.cycle(range(PORT_FIRST, PORT_LAST))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(n)`: n loopback TCP ports that nothing listens on, different at each call."""
    start = os.getpid() * 127 % (PORT_LAST - PORT_FIRST)
    candidates: Iterator[int] = itertools.islice(_ports, start, None)

    def take(count: int) -> list[int]:
        assert 0 < count <= 100
        return list(itertools.islice(filter(_is_free, candidates), count))

    return take


@pytest.fixture
def data_dirs(tmp_path: Path) -> Callable[[int], list[Path]]:
    """`data_dirs(n)`: paths `n1`, `n2`, ... for the data directories of a test; none exists yet."""
    return lambda count: [tmp_path / f"n{number}" for number in range(1, count + 1)]
