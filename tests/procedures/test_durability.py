"""R1 as the kernel sees it: two nodes' fdatasync of the log return before the reply to a put is sent."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.procedures.cluster import Cluster, Member
from tests.procedures.process import Process

CALLS = "fdatasync,sendto,sendmsg,writev,write"
LINE = re.compile(
    r"(?P<begin>\d+\.\d+) (?P<call>\w+)\((?P<arguments>.*)\) = (?P<result>-?\d+).* <(?P<took>[\d.]+)>"
)


class Call(NamedTuple):
    """A system call that returned; times in seconds since 1970, the same clock for all processes."""

    name: str
    arguments: str
    begin: float
    end: float


class Trace:
    """strace on one member, a file for each thread, until `read`."""

    def __init__(self, member: Member, directory: Path) -> None:
        assert member.process is not None
        self._prefix = directory / f"strace-{member.id}"
        flags = ["-f", "-ff", "-ttt", "-T", "-y", "-s", "48", "-e", f"trace={CALLS}", "-o", str(self._prefix)]
        self._strace = Process("strace", ["strace", *flags, "-p", str(member.process.pid)], directory / "log")
        self._strace.wait_until(lambda: "attached" in self._strace.log.read_text(), 10, "attached")

    def read(self) -> list[Call]:
        self._strace.send(signal.SIGINT)
        self._strace.wait(10)
        lines = [
            line
            for path in self._prefix.parent.glob(f"{self._prefix.name}.*")
            for line in path.read_text(errors="replace").splitlines()
        ]
        return [
            Call(found["call"], found["arguments"], begin, begin + float(found["took"]))
            for found in map(LINE.match, lines)
            if found is not None and int(found["result"]) >= 0
            for begin in [float(found["begin"])]
        ]


@pytest.mark.skipif(shutil.which("strace") is None, reason="the system package strace is missing")
def test_two_nodes_sync_the_log_before_the_reply(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start("--bootstrap")
        cluster.wait_voters(3)
        leader = cluster.leader()
        assert leader.request("PUT", "/kv/t/before", 1).status == 200
        time.sleep(0.3)  # the followers' syncs of that write are over
        traces = {}
        for member in cluster.members:
            (tmp_path / f"trace-{member.id}").mkdir()
            traces[member.id] = Trace(member, tmp_path / f"trace-{member.id}")
        asked = time.time()
        assert leader.request("PUT", "/kv/t/traced", 2).status == 200
        calls = {node_id: trace.read() for node_id, trace in traces.items()}

    replies = [call for call in calls[leader.id] if "HTTP/1.1 200" in call.arguments]
    assert len(replies) == 1
    synced = {
        node_id
        for node_id, made in calls.items()
        for call in made
        if call.name == "fdatasync" and ".wal>" in call.arguments
        if asked < call.begin and call.end < replies[0].begin
    }
    assert len(synced) >= 2, f"only {synced} had synced the log before the reply"
