"""Loopback ports for the servers of tests, drills and benchmarks."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

# Below Linux's ephemeral range (32768..), so no outgoing connection takes a port that was given away
# and is not bound yet; the start differs per process, so parallel workers keep apart.
PORT_FIRST, PORT_LAST = 12_000, 32_000


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_start = os.getpid() * 127 % (PORT_LAST - PORT_FIRST)
_candidates: Iterator[int] = itertools.islice(itertools.cycle(range(PORT_FIRST, PORT_LAST)), _start, None)


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that nothing listens on, different at each call."""
    assert 0 < count <= 100
    return list(itertools.islice(filter(_is_free, _candidates), count))
