"""Scenarios as text: commands to a cluster, and the story that it answers with.

A scenario is a list of stanzas: a command (and, if one likes, comments before it that begin with #), a line
of four dashes, and what happened, up to the next empty line. Commands:

    cluster abc [learners=d] [blank=e] [append_bytes=N]
                                          nodes by their letters; `blank` ones are in no configuration yet
    lead a                                a is elected, and all hear of it
    campaign a                            a loses patience; nothing is delivered, and others' leases are over
    tick a [N]                            N ticks of one node, once if left out
    run N [abc]                           N ticks of these nodes (all), with everything delivered in between
    deliver a->b [N]                      the N oldest messages on this way, all of them if left out
    settle [abc]                          syncs and deliveries among these nodes (all) until all is quiet
    sync a                                its writes become durable
    lose [a->b]                           what is under way (there) is lost
    cut a->b | a-b      isolate abc      heal
    crash a             start a           a crash loses what was not synced
    propose a [N]                         one frame of N entries, one if left out
    configure a voters=abc [learners=d]
    read a     snapshot a   install a     a snapshot drops the log before it; `settle` installs, too
    transfer a b        step-down a
    log a               status [abc]

With the word `quietly` at its end a command tells changes of state only, and no messages. An election
timeout is ten ticks for a, eleven for b, and so on, so that nothing is left to chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from neumann.format.frame import Kind
from neumann.format.message import Append, AppendReply, Message, SnapshotOffer, VoteReply, VoteRequest
from neumann.raft import Raft, Random
from tests.raft.disk import members
from tests.raft.harness import HEARTBEAT_TICKS, Node, World

RULE = "----"


class Stanza(NamedTuple):
    """`head`: comments and the command, as they stand."""

    head: list[str]
    told: list[str]

    @property
    def command(self) -> str:
        return self.head[-1]


def parse(text: str) -> list[Stanza]:
    """The stanzas of a scenario."""
    stanzas = []
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        head, rule, told = part.partition(f"\n{RULE}")
        assert rule, f"a stanza without {RULE}: {part!r}"
        stanzas.append(Stanza(head.splitlines(), told.strip("\n").splitlines()))
    return stanzas


def write(stanzas: list[Stanza]) -> str:
    """The inverse of `parse`."""
    return "\n\n".join("\n".join([*s.head, RULE, *s.told]) for s in stanzas) + "\n"


def play(path: Path) -> list[Stanza]:
    """The same scenario with what happens now."""
    narrator: Narrator | None = None
    told = []
    for stanza in parse(path.read_text()):
        words = stanza.command.split()
        if words[0] == "cluster":
            options = dict(word.split("=") for word in words[2:])
            append_bytes = int(options.get("append_bytes", "1000000"))
            narrator = Narrator(words[1], options.get("learners", ""), options.get("blank", ""), append_bytes)
            lines = []
        else:
            assert narrator is not None, "a scenario begins with a cluster"
            lines = narrator.obey(words)
        told.append(Stanza(stanza.head, lines))
    return told


class _Seen(NamedTuple):
    """What a change is told of."""

    role: str
    term: int
    leader: str
    voted_for: str
    commit: int
    last: tuple[int, int]
    base: int
    members: str
    reads: int
    lost_reads: int
    wanted: bool


class _Punctual:
    """Draws the same election timeout each time."""

    def __init__(self, extra_ticks: int) -> None:
        self._extra_ticks = extra_ticks

    def randrange(self, start: int, stop: int, /) -> int:
        return min(start + self._extra_ticks, stop - 1)


class Narrator(World):
    """A cluster that tells what happens to it."""

    def __init__(self, voters: str, learners: str, blank: str, append_bytes: int) -> None:
        self._lines: list[str] = []
        self._is_quiet = False
        self._depth = 0
        super().__init__(voters, learners, blank, append_bytes_max=append_bytes)

    def obey(self, words: list[str]) -> list[str]:
        """One command; what it does, line by line."""
        self._lines = []
        self._is_quiet = words[-1] == "quietly"
        name, *arguments = [word for word in words if word != "quietly"]
        act: Callable[..., None] = getattr(self, f"do_{name.replace('-', '_')}")
        act(*arguments)
        return self._lines

    def _timeouts(self, node: Node) -> Random:
        return _Punctual(2 + ord(node.name) - ord("a"))

    # Commands.

    def do_lead(self, name: str) -> None:
        self.elect(name)
        self.run(HEARTBEAT_TICKS)
        core = self[name]
        self._lines = [f"{name} leads term {core.term}; all follow, and have committed {core.commit_index}"]

    def do_campaign(self, name: str) -> None:
        self.let_leases_end(name)
        while self[name].role == "follower":
            self.tick(name)

    def do_tick(self, name: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.tick(name)

    def do_run(self, ticks: str, names: str | None = None) -> None:
        self.run(int(ticks), names)

    def do_deliver(self, way: str, count: str = "1000") -> None:
        sender, receiver = way.split("->")
        for _ in range(int(count)):
            found = [i for i, p in enumerate(self.packets) if (p.sender, p.receiver) == (sender, receiver)]
            if not found:
                break
            self.deliver(found[0])

    def do_settle(self, names: str | None = None) -> None:
        self.settle(names)

    def do_sync(self, name: str) -> None:
        self.sync(name)

    def do_lose(self, way: str = "") -> None:
        self.packets = [p for p in self.packets if way not in ("", f"{p.sender}->{p.receiver}")]

    def do_cut(self, way: str) -> None:
        one, other = re.split("->|-", way)
        self.cut |= {(one, other)} if "->" in way else {(one, other), (other, one)}

    def do_isolate(self, names: str) -> None:
        self.isolate(*names)

    def do_heal(self) -> None:
        self.heal()

    def do_crash(self, name: str) -> None:
        self.crash(name)

    def do_start(self, name: str) -> None:
        self.start(name)
        self._tell(f"{name} starts in term {self[name].term} with a log up to {_point(self[name].last)}")

    def do_propose(self, name: str, count: str = "1") -> None:
        self.propose(name, int(count))

    def do_configure(self, name: str, *options: str) -> None:
        chosen = dict(option.split("=") for option in options)
        self.propose_special(name, members(chosen["voters"], chosen.get("learners", "")))

    def do_read(self, name: str) -> None:
        self.read(name)

    def do_snapshot(self, name: str) -> None:
        self.apply(name)
        self.snapshot(name)

    def do_install(self, name: str) -> None:
        self.fetch(name)

    def do_transfer(self, name: str, to: str) -> None:
        self.change(name, lambda core: core.transfer_to(to))

    def do_step_down(self, name: str) -> None:
        self.change(name, lambda core: core.step_down("it was asked to"))

    def do_log(self, name: str) -> None:
        core = self[name]
        self._tell(f"base {_point(core.log.base)}")
        index = core.log.base.index
        while index < core.last.index:
            extent = core.log.frame_containing(index + 1)
            kind = self.nodes[name].frames[extent.first_index].header.kind
            committed = ", committed" if extent.last_index <= core.commit_index else ""
            self._tell(f"{_range(*extent[:2])} of term {extent.term}: {kind.name.lower()}{committed}")
            index = extent.last_index

    def do_status(self, names: str = "") -> None:
        for node in self.nodes.values():
            if node.name not in (names or self.nodes):
                continue
            if node.core is None:
                self._tell(f"{node.name} is down")
                continue
            core = node.core
            follows = f" of {core.leader}" if core.role == "follower" and core.leader else ""
            end = f"log to {_point(core.last)}, committed {core.commit_index}"
            self._tell(f"{node.name} {core.role}{follows}, term {core.term}, {end}")

    # The story.

    def _tell(self, line: str) -> None:
        self._lines.append(line)

    def deliver(self, position: int = 0, keep: bool = False) -> None:
        packet = self.packets[position]
        if not self._is_quiet:
            lost = " (lost)" if (packet.sender, packet.receiver) in self.cut else ""
            if self.nodes[packet.receiver].core is None:
                lost = " (nobody there)"
            self._tell(f"{packet.sender} -> {packet.receiver}: {_message(packet.message)}{lost}")
        super().deliver(position, keep)

    def _input(self, name: str, act: Callable[[Raft], object]) -> None:
        before = self._look(name)
        self._depth += 1  # a new leader proposes within an input: that is told once
        super()._input(name, act)
        self._depth -= 1
        if self._depth:
            return
        after = self._look(name)
        for change in _changes(name, before, after, self[name]):
            self._tell(f"  {change}")
        reads = self.nodes[name].reads[before.reads :]
        for _, index in reads:
            self._tell(f"  {name} may answer a read once it has applied {index}")

    def _look(self, name: str) -> _Seen:
        node, core = self.nodes[name], self[name]
        return _Seen(
            str(core.role),
            core.term,
            core.leader,
            core.voted_for.node_id,
            core.commit_index,
            core.last[:2],
            core.log.base.index,
            _members(core),
            len(node.reads),
            len(node.lost_reads),
            node.wanted is not None,
        )


def _changes(name: str, before: _Seen, after: _Seen, core: Raft) -> Iterator[str]:
    if after.commit != before.commit and before.role == "leader":
        yield f"{name} commits {after.commit}"
    if (before.role, before.term) != (after.role, after.term):
        why = f" ({core.left_because})" if before.role == "leader" and core.left_because else ""
        yield f"{name} is {after.role} in term {after.term}{why}"
    if after.leader not in ("", name, before.leader):
        yield f"{name} follows {after.leader}"
    if after.voted_for not in ("", before.voted_for, name) or (
        after.voted_for not in ("", name) and before.term != after.term
    ):
        yield f"{name} votes for {after.voted_for}"
    if after.base > max(before.base, before.commit):
        yield f"{name} has installed a snapshot at {after.base}"
    elif after.base > before.base:
        yield f"{name} drops its log up to {after.base}"
    elif after.last != before.last:
        cut = after.last[0] < before.last[0] or (before.last[1] != after.last[1] and _replaced(before, core))
        verb = "cuts its log, which now ends at" if cut else "has a log up to"
        yield f"{name} {verb} {_point(after.last)}"
    if after.members != before.members:
        yield f"{name} has {after.members} in force"
    if after.commit != before.commit and before.role != "leader":
        yield f"{name} commits {after.commit}"
    if after.wanted and not before.wanted:
        yield f"{name} wants the snapshot"
    for _ in range(after.lost_reads - before.lost_reads):
        yield f"{name} can't confirm a read any more"


def _replaced(before: _Seen, core: Raft) -> bool:
    """Whether the entry that was the last one is another's now."""
    index, term = before.last
    return index > core.log.base.index and core.log.frame_containing(index).term != term


def _point(point: tuple[int, ...]) -> str:
    return f"{point[0]}" + (f" of term {point[1]}" if point[1] else "")


def _range(first: int, last: int) -> str:
    return f"{first}..{last}" if first < last else f"{first}"


def _members(core: Raft) -> str:
    now = core.configuration
    learners = f" and learners {' '.join(now.learners)}" if now.learners else ""
    return f"voters {' '.join(now.voters)}{learners}"


def _message(message: Message) -> str:
    if isinstance(message, VoteRequest):
        what = "pre-vote" if message.pre else "vote"
        handing = ", as its leader wishes" if message.transfer else ""
        log = f"its log ends at {_point(message[1:3])}"
        return f"asks for a {what} in term {message.term}; {log}{handing}"
    if isinstance(message, VoteReply):
        what = "pre-vote" if message.pre else "vote"
        return f"{'gives' if message.granted else 'refuses'} its {what} in term {message.term}"
    if isinstance(message, Append):
        behind = f"behind {_point(message[1:3])}"
        rest = f"{behind}; committed {message.commit_index}; round {message.round} of term {message.term}"
        if not message.frames:
            return f"nothing {rest}"
        kinds = [frame.header.kind for frame in message.frames if frame.header.kind is not Kind.DATA]
        named = f" ({', '.join(kind.name.lower() for kind in kinds)})" if kinds else ""
        return f"{_range(message.prev_index + 1, message.last_index)}{named} {rest}"
    if isinstance(message, AppendReply):
        verb = "has" if message.ok else "refuses; try again behind"
        return f"{verb} {_point(message[2:4])}; round {message.round} of term {message.term}"
    if isinstance(message, SnapshotOffer):
        return f"offers a snapshot at {_point(message[1:3])}; round {message.round} of term {message.term}"
    return f"hands over: campaign now; term {message.term}"
