"""The package's docstring is true: a cluster runs on the driver that it shows, with disks that sync late."""

from __future__ import annotations

import ast
import random
import re
import textwrap
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import neumann.raft
from neumann.format import frame as frame_format
from neumann.format import special
from neumann.format.frame import Frame, Kind
from neumann.format.ids import NOBODY, Candidate, Configuration, Incarnation
from neumann.format.message import Append, Message
from neumann.raft import FrameLog, Raft, RaftConfig, Ready, Restored, invariants
from tests.raft.disk import BASE, members, storage_of

NAMES = "abc"


def driver() -> str:
    """The code in the docstring: from its first line to the prose behind it."""
    text = neumann.raft.__doc__ or ""
    found = re.search(r"^    def pump.*?(?=^\S)", text, re.S | re.M)
    assert found
    return textwrap.dedent(found[0])


class Disk:
    """A log and a vote in memory. What is written counts for a restart only after `sync`."""

    def __init__(self) -> None:
        self.vote: tuple[int, Candidate] = (0, NOBODY)
        self.frames: list[Frame] = []
        self._durable: tuple[tuple[int, Candidate], list[Frame]] = (self.vote, [])
        self._waiting: deque[tuple[Callable[[Raft, Ready], None], Raft, Ready]] = deque()

    def write_vote(self, term: int, voted_for: Candidate) -> None:
        self.vote = (term, voted_for)

    def truncate_after(self, index: int) -> None:
        self.frames = [frame for frame in self.frames if frame.header.last_index <= index]

    def append(self, frames: tuple[Frame, ...]) -> None:
        self.frames += frames

    def attach_frames(self, message: Message) -> Message:
        if not isinstance(message, Append):
            return message
        after, last = message.prev_index, message.last_index
        return message._replace(frames=tuple(f for f in self.frames if after < f.header.last_index <= last))

    def after_sync(self, done: Callable[[Raft, Ready], None], core: Raft, ready: Ready) -> None:
        self._waiting.append((done, core, ready))

    def sync(self) -> None:
        """All that was written until now is durable."""
        self._durable = (self.vote, list(self.frames))
        for _ in range(len(self._waiting)):
            done, core, ready = self._waiting.popleft()
            done(core, ready)

    def crash(self) -> None:
        self.vote, self.frames = self._durable[0], list(self._durable[1])
        self._waiting.clear()


class Cluster:
    """Three cores, each with the driver of the docstring over its own disk, on one network."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.code = compile(driver(), "the docstring of neumann.raft", "exec")
        self.disks = {name: Disk() for name in NAMES}
        self.applied: dict[str, list[bytes]] = {}
        self.reads: list[int] = []
        self.packets: list[tuple[str, str, Message]] = []
        self.starts = dict.fromkeys(NAMES, 0)
        self.cores: dict[str, Raft] = {}
        self.pump: dict[str, Callable[[Raft], None]] = {}
        self.clock = 0
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> None:
        """From what is durable; what is applied is not, and is applied again."""
        disk, log = self.disks[name], FrameLog(BASE)
        for frame in disk.frames:
            log.append(frame.header)
        restored = Restored(disk.vote[0], disk.vote[1], log, members(NAMES), 0, 0, 0)
        self.starts[name] += 1
        self.applied[name] = []
        config = RaftConfig(name, storage_of(name), heartbeat_ticks=2, election_ticks=8)
        self.cores[name] = Raft(config, restored, random.Random(f"{name}{self.starts[name]}"))
        namespace: dict[str, Any] = {
            "disk": disk,
            "network": SimpleNamespace(send=lambda to, message: self.packets.append((name, to, message))),
            "runtime": SimpleNamespace(carry_out=self.carry_out),
        }
        exec(self.code, namespace)
        self.pump[name] = namespace["pump"]
        self.pump[name](self.cores[name])

    def carry_out(self, core: Raft, ready: Ready) -> None:
        disk = self.disks[core.node_id]
        for frame in disk.frames:
            if core.applied_index < frame.header.last_index <= ready.commit_index:
                self.applied[core.node_id].append(frame.data)
        core.applied(max(core.applied_index, ready.commit_index))
        self.reads += [token for token, index in ready.reads if index <= core.applied_index]
        assert not ready.diverged
        if ready.role_changed and core.role == "leader" and core.last.term < core.term:
            kind, body = special.encode(special.Noop())
            core.propose(self.frame(core, kind, body))

    def frame(self, core: Raft, kind: Kind, entry: bytes) -> Frame:
        self.clock += 1
        last = core.last
        return frame_format.encode(kind, last.index + 1, core.term, self.clock, last.chain, [entry])

    def input(self, name: str, act: Callable[[Raft], object]) -> None:
        before = invariants.observe(self.cores[name])
        act(self.cores[name])
        self.pump[name](self.cores[name])
        invariants.check(self.cores[name])
        invariants.check_step(before, invariants.observe(self.cores[name]))

    def run(self, steps: int) -> None:
        """Ticks, deliveries and syncs in any order; one message in twenty is lost."""
        for _ in range(steps):
            for name in NAMES:
                self.input(name, lambda core: core.tick())
            self.random.shuffle(self.packets)
            packets, self.packets = self.packets, []
            for sender, to, message in packets:
                if self.random.random() > 0.05:
                    who = Incarnation(storage_of(sender), self.starts[sender])
                    self.input(to, lambda core, s=sender, m=message, w=who: core.step(s, m, w))  # type: ignore[misc]
            for name in NAMES:
                if self.random.random() < 0.7:
                    self.disks[name].sync()

    @property
    def leader(self) -> Raft | None:
        leading = [core for core in self.cores.values() if core.role == "leader"]
        return max(leading, key=lambda core: core.term) if leading else None


def test_the_driver_is_as_short_as_it_is_said_to_be() -> None:
    code = driver()
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    assert [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)] == [
        "pump",
        "done",
    ]


def test_answers_go_before_the_core_hears_that_its_disk_is_done() -> None:
    """The core may answer at once, and overtake what waited for the disk; runtime/durability.py has the same
    order (tests/runtime/test_durability.py)."""
    calls: list[str] = []
    core = SimpleNamespace(
        vote_persisted=lambda *vote: calls.append("vote"),
        persisted=lambda *point: calls.append("frames"),
        ready=lambda: calls.append("ready"),
    )
    namespace: dict[str, Any] = {
        "network": SimpleNamespace(send=lambda to, message: calls.append(f"send {message}"))
    }
    exec(compile(driver(), "the docstring of neumann.raft", "exec"), namespace)
    frame = frame_format.encode(Kind.DATA, 1, 1, 1, 0, [b"entry"])
    ready = SimpleNamespace(
        vote=(1, NOBODY), frames=(frame,), truncations=0, messages_after_sync=[("b", 1), ("c", 2)]
    )
    namespace["done"](core, ready)
    assert calls == ["send 1", "send 2", "vote", "frames", "ready"]


def test_a_cluster_runs_on_the_driver_of_the_docstring() -> None:
    for seed in range(5):
        cluster = Cluster(seed)
        proposed = 0
        for turn in range(40):
            cluster.run(6)
            leader = cluster.leader
            if leader is not None and not leader.transferring:
                proposed += 1
                frame = cluster.frame(leader, Kind.DATA, b"entry %d" % proposed)
                cluster.input(leader.node_id, lambda core, frame=frame: core.propose(frame))  # type: ignore[misc]
                cluster.input(leader.node_id, lambda core, token=proposed: core.read_index(token))  # type: ignore[misc]
            if turn % 10 == 9:
                name = cluster.random.choice(NAMES)
                cluster.disks[name].crash()
                cluster.start(name)
        cluster.run(60)
        assert len({tuple(applied) for applied in cluster.applied.values()}) == 1
        assert len(cluster.applied["a"]) > 20 and len(cluster.reads) > 10
        assert isinstance(cluster.cores["a"].configuration, Configuration)
