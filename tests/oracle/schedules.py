"""Random schedules of the oracle, and its command line: scripts/oracle --schedules N --seed S."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from neumann.format.ids import LEARNER, VOTER, Configuration
from neumann.format.message import VoteRequest
from tests.oracle import etcd
from tests.oracle.differences import Judge
from tests.oracle.etcd import Etcd
from tests.oracle.recorder import Recorder
from tests.raft.disk import members
from tests.raft.harness import ELECTION_TICKS

STEPS = 300
SHAPES = (("abc", ""), ("abcde", ""), ("abc", "de"), ("ab", "c"), ("a", "bc"), ("abcd", ""))
CONTEXT = 12
"""So many steps of a node are shown before one that differs."""


class Different(AssertionError):
    """The two sides differ in what is not allowed."""


@dataclass
class Report:
    """What a run of schedules did."""

    schedules: int = 0
    steps: int = 0
    commits: int = 0
    elections: int = 0
    met: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = "".join(f"\n  {count:9,d}  {name}" for name, count in sorted(self.met.items()))
        return (
            f"{self.schedules:,d} schedules, {self.steps:,d} inputs compared, {self.elections:,d} elections, "
            f"{self.commits:,d} commits; allowed differences met:{kinds}"
        )


def _leaders(world: Recorder) -> list[str]:
    return [node.name for node in world.running if node.up.role == "leader"]


def _reconfigure(world: Recorder, name: str) -> None:
    core = world[name]
    now = core.configuration
    target = world.random.choice(sorted(world.nodes))
    member = now.member(target)
    if member is None:
        new = now.with_member(members("", target).members[0])
    elif member.role == LEARNER:
        behind = core.progress[target].match_index < core.commit_index - 10
        if behind and world.random.random() < 0.7:
            return
        new = now.with_member(member._replace(role=VOTER))
    elif len(now.voters) > 1 and (target != name or len(now.voters) > 2):
        new = Configuration(now.without(target).members)
    else:
        return
    world.propose_special(name, new)


def _lead(world: Recorder, name: str) -> None:
    """Something that only a leader does. One that has removed itself proposes nothing more."""
    core, chance = world[name], world.random
    choice = chance.random()
    free = core.is_voter and not core.transferring
    if choice < 0.6 and free:
        world.propose(name, chance.randint(1, 3))
    elif choice < 0.8:
        world.read(name)
    elif choice < 0.88 and free and not core.configuration_pending:
        _reconfigure(world, name)
    elif choice < 0.93:
        others = [voter for voter in core.configuration.voters if voter != name]
        if others:
            world.change(name, lambda core: core.transfer_to(chance.choice(others)))
    elif choice < 0.95:
        world.change(name, lambda core: core.step_down("asked"))
    elif core.progress:
        world.change(name, lambda core: core.report_unreachable(chance.choice(sorted(core.progress))))


def _disturb(world: Recorder) -> None:
    chance = world.random
    name = chance.choice(sorted(world.nodes))
    choice = chance.random()
    if world.nodes[name].core is None:
        world.start(name)
    elif choice < 0.35:
        world.crash(name, keep=chance.choice((0.0, 0.7)))
    elif choice < 0.55:
        world.isolate(name)
    elif choice < 0.75:
        world.cut.add((name, chance.choice(sorted(world.nodes))))
    else:
        world.heal()


def _house_keeping(world: Recorder) -> None:
    node = world.random.choice(world.running)
    world.apply(node.name)
    if world.random.random() < 0.4:
        world.snapshot(node.name, compact=world.random.random() < 0.8)
    for wanting in world.running:
        if wanting.wanted is not None and world.random.random() < 0.5:
            world.fetch(wanting.name)


def _lose_patience(world: Recorder) -> None:
    """A node hears nothing for a while."""
    name = world.random.choice(world.running).name
    for _ in range(world.random.randint(ELECTION_TICKS // 2, 2 * ELECTION_TICKS)):
        world.tick(name)


def _deliver_some(world: Recorder, loss: float, in_order: bool) -> None:
    chance = world.random
    for _ in range(min(len(world.packets), chance.randint(1, 8))):
        position = 0 if in_order else chance.randrange(min(len(world.packets), 30))
        if chance.random() < loss:
            del world.packets[position]
        else:
            packet = world.packets[position]
            world.deliver(position, keep=chance.random() < loss / 2)
            if isinstance(packet.message, VoteRequest) and not in_order:
                world.late.append(packet)
    if world.late and chance.random() < 0.1:
        world.packets.append(chance.choice(world.late))


def play(seed: int, lenient: bool = False) -> Recorder:
    """One schedule on our side: everything follows from the seed."""
    voters, blank = SHAPES[seed % len(SHAPES)]
    world = Recorder(voters, blank, seed, lenient, bytes_in_flight_max=600, append_bytes_max=400)
    chance = world.random
    loss = chance.choice((0.0, 0.05, 0.3))
    trouble = chance.choice((0.0, 0.01, 0.04))
    impatience = chance.choice((0.01, 0.05))
    in_order = chance.random() < 0.4
    for _ in range(STEPS):
        choice = chance.random()
        running = world.running
        if choice < trouble or not running:
            _disturb(world)
        elif choice < trouble + impatience:
            _lose_patience(world)
        elif choice < 0.2:
            for node in chance.sample(running, chance.randint(1, len(running))):
                world.tick(node.name)
        elif choice < 0.35:
            world.sync(chance.choice(running).name, chance.choice((1, None)))
        elif choice < 0.55:
            leaders = _leaders(world)
            if leaders:
                _lead(world, chance.choice(leaders))
        elif choice < 0.62:
            _house_keeping(world)
        else:
            _deliver_some(world, loss, in_order)
    return world


def compare(oracle: Etcd, seed: int, report: Report, lenient: bool = False) -> None:
    """One schedule on both sides. Different, with the steps before, where they differ."""
    world = play(seed, lenient)
    judge = Judge()
    answers = oracle.run(world.lines())
    for position, (step, answer) in enumerate(zip(world.steps, answers, strict=True)):
        differs = judge.difference(step, answer)
        if differs:
            before = [f"  {s.node} {s.what}" for s in world.steps[:position] if s.node == step.node]
            raise Different(
                f"schedule {seed}, step {position}, node {step.node}: {differs}\n"
                + "\n".join(before[-CONTEXT:])
                + f"\n> {step.node} {step.what}\n  to etcd: {step.do}\n"
                f"repeat: scripts/oracle --schedules 1 --seed {seed}"
            )
    report.schedules += 1
    report.steps += judge.compared
    report.commits += world.checker.commits
    report.elections += len(world.checker.leaders)
    report.met += judge.met + world.skipped


def main() -> int:
    """scripts/oracle."""
    parser = argparse.ArgumentParser(prog="scripts/oracle", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed (default 0)")
    arguments = parser.parse_args()
    if reason := etcd.missing():
        print(f"scripts/oracle: not possible here: {reason}", file=sys.stderr)
        return 2
    seeds = range(arguments.seed, arguments.seed + arguments.schedules)
    report, failed, began_s = Report(), 0, time.monotonic()
    with suppress(KeyboardInterrupt), Etcd() as oracle:  # an interrupted run still reports
        for seed in seeds:
            try:
                compare(oracle, seed, report)
            except AssertionError as error:
                failed += 1
                print(f"FAILED schedule {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{report}\n{failed} failed; {time.monotonic() - began_s:.0f} s")
    return 0 if report.schedules == len(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
