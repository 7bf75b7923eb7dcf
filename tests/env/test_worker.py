"""The helper process's own end."""

from __future__ import annotations

import subprocess
import sys

import msgpack

from neumann.env.worker import LENGTH_BYTES


def test_it_ends_quietly_when_its_node_is_gone() -> None:
    """A helper that was at work when its node was killed left a traceback in the node's log."""
    request = msgpack.packb(("neumann.store.jobs:flush", {}))
    worker = subprocess.Popen(
        [sys.executable, "-c", "from neumann.env.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert worker.stdin is not None and worker.stdout is not None and worker.stderr is not None
    worker.stdout.close()
    worker.stdin.write(len(request).to_bytes(LENGTH_BYTES, "little") + request)
    worker.stdin.close()
    with worker.stderr:
        assert worker.stderr.read() == b""
    assert worker.wait() == 0
