"""A cluster as a state machine that hypothesis drives: what it finds, it makes as short as it can.

The checker looks after every input (checker.py). test_chaos.py goes deeper with plain seeds; here a failure
comes as a few readable lines.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neumann.format.ids import LEARNER, VOTER, Configuration
from tests.mutations.plant import planted
from tests.mutations.table import MUTATIONS
from tests.raft.disk import members
from tests.raft.harness import ELECTION_TICKS, World
from tests.raft.test_chaos import recover

GENERATE = (Phase.generate,)
PLACES = st.integers(0, 4)


class Cluster(RuleBasedStateMachine):
    """A few voters, and nodes that are in no configuration yet. No disk loses what was synced."""

    world: World

    @initialize(shape=st.sampled_from([("abc", "d"), ("abcde", ""), ("ab", "c"), ("a", "bc")]))
    def begin(self, shape: tuple[str, str]) -> None:
        self.world = World(shape[0], blank=shape[1], bytes_in_flight_max=600, append_bytes_max=400)

    def name(self, place: int) -> str:
        names = sorted(self.world.nodes)
        return names[place % len(names)]

    def up(self, place: int) -> str | None:
        name = self.name(place)
        return name if self.world.nodes[name].core is not None else None

    @property
    def leaders(self) -> list[str]:
        return [node.name for node in self.world.running if node.up.role == "leader"]

    @rule(place=PLACES, count=st.sampled_from([1, 2, ELECTION_TICKS, 2 * ELECTION_TICKS]))
    def ticks(self, place: int, count: int) -> None:
        name = self.up(place)
        for _ in range(count if name else 0):
            self.world.tick(name or "")

    @precondition(lambda self: self.world.packets)
    @rule(position=st.integers(0, 40), count=st.integers(1, 6), keep=st.booleans())
    def deliver(self, position: int, count: int, keep: bool) -> None:
        for _ in range(count):
            if self.world.packets:
                self.world.deliver(position % len(self.world.packets), keep)

    @precondition(lambda self: self.world.packets)
    @rule(position=st.integers(0, 40))
    def lose(self, position: int) -> None:
        del self.world.packets[position % len(self.world.packets)]

    @rule(place=PLACES, count=st.sampled_from([1, None]))
    def sync(self, place: int, count: int | None) -> None:
        if name := self.up(place):
            self.world.sync(name, count)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule(place=PLACES)
    def crash_or_start(self, place: int) -> None:
        name = self.name(place)
        if self.world.nodes[name].core is None:
            self.world.start(name)
        else:
            self.world.crash(name, keep=0.5)

    @rule(one=PLACES, other=PLACES)
    def cut(self, one: int, other: int) -> None:
        self.world.cut.add((self.name(one), self.name(other)))

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @precondition(lambda self: self.leaders)
    @rule(place=PLACES, count=st.integers(1, 3))
    def propose(self, place: int, count: int) -> None:
        leader = self.leaders[place % len(self.leaders)]
        if not self.world[leader].transferring:
            self.world.propose(leader, count)

    @precondition(lambda self: self.leaders)
    @rule(place=PLACES)
    def read(self, place: int) -> None:
        self.world.read(self.leaders[place % len(self.leaders)])

    @precondition(lambda self: self.leaders)
    @rule(place=PLACES, other=PLACES)
    def change_members(self, place: int, other: int) -> None:
        leader = self.leaders[place % len(self.leaders)]
        core, name = self.world[leader], self.name(other)
        member = core.configuration.member(name)
        if core.configuration_pending or core.transferring:
            return
        if member is None:
            new = core.configuration.with_member(members("", name).members[0])
        elif member.role == LEARNER:
            if core.progress[name].match_index < core.commit_index:
                return  # who has not caught up must not be half of a majority
            new = core.configuration.with_member(member._replace(role=VOTER))
        elif len(core.configuration.voters) > 2:
            new = Configuration(core.configuration.without(name).members)
        else:
            return
        self.world.propose_special(leader, new)

    @precondition(lambda self: self.leaders)
    @rule(place=PLACES, other=PLACES)
    def transfer(self, place: int, other: int) -> None:
        leader = self.leaders[place % len(self.leaders)]
        others = [v for v in self.world[leader].configuration.voters if v != leader]
        if others:
            self.world.change(leader, lambda core: core.transfer_to(others[other % len(others)]))

    @rule(place=PLACES, compact=st.booleans())
    def snapshot(self, place: int, compact: bool) -> None:
        if name := self.up(place):
            self.world.apply(name)
            self.world.snapshot(name, compact)

    @rule(place=PLACES)
    def fetch(self, place: int) -> None:
        if name := self.up(place):
            self.world.fetch(name)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            recover(self.world)


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_the_rules_hold_and_the_cluster_recovers() -> None:
    run_state_machine_as_test(Cluster, settings=SETTINGS)


def test_it_finds_a_planted_bug() -> None:
    """Bug 7, planted: a leader that counts what its disk does not have yet."""
    (bug,) = [m for m in MUTATIONS if m.name == "a leader counts what it has written and not synced"]
    found = False
    with planted(bug):
        try:
            run_state_machine_as_test(
                Cluster,
                settings=settings(
                    SETTINGS, max_examples=300, phases=GENERATE, database=None, derandomize=True
                ),
            )
        except Exception:
            found = True
    assert found
