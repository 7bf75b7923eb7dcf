"""Random schedules: everything that may go wrong between cores, then a calm in which all must recover."""

from __future__ import annotations

import pytest

from neumann.format.ids import LEARNER, VOTER, Configuration
from tests.raft.disk import members
from tests.raft.harness import ELECTION_TICKS, World

SEEDS_PER_TEST = 8
STEPS = 600


def _leaders(world: World) -> list[str]:
    return [node.name for node in world.running if node.core and node.core.role == "leader"]


def _reconfigure(world: World, name: str) -> None:
    """Add, promote or remove one member at random, at most one voter at a time."""
    core = world[name]
    if core.configuration_pending:
        return
    now = core.configuration
    target = world.random.choice(sorted(world.nodes))
    member = now.member(target)
    if member is None:
        new = now.with_member(members("", target).members[0])
    elif member.role == LEARNER:
        if core.progress[target].match_index < max(core.commit_index - 10, 1):
            return  # a blank learner must not be half of a majority
        new = now.with_member(member._replace(role=VOTER))
    elif len(now.voters) > 2:
        new = Configuration(now.without(target).members)
    else:
        return
    world.propose_special(name, new)


def _lead(world: World, name: str) -> None:
    """Something that only a leader may do."""
    core = world[name]
    choice = world.random.random()
    if choice < 0.65 and not core.transferring:
        world.propose(name, world.random.randint(1, 4), world.random.choice((8, 8, 300)))
    elif choice < 0.85:
        world.read(name)
    elif choice < 0.92 and not core.transferring:
        _reconfigure(world, name)
    elif choice < 0.95:
        others = [v for v in core.configuration.voters if v != name]
        if others:
            world.change(name, lambda core: core.transfer_to(world.random.choice(others)))
    elif choice < 0.96:
        world.change(name, lambda core: core.step_down("asked"))
    elif core.progress:
        lost = world.random.choice(sorted(core.progress))
        world.change(name, lambda core: core.report_unreachable(lost))


def _disturb(world: World) -> None:
    """A crash, a restart, a cut or its healing, now and then damage."""
    name = world.random.choice(sorted(world.nodes))
    node = world.nodes[name]
    choice = world.random.random()
    if node.core is None:
        others_whole = all(n.disk.floor == (0, 0) for n in world.nodes.values())
        if choice < 0.15 and others_whole:
            world.checker.damaged = True
            world.damage(name, tail_known=world.random.random() < 0.5)
        world.start(name)
    elif choice < 0.4:
        world.crash(name, keep=world.random.choice((0.0, 0.7)))
    elif choice < 0.6:
        world.isolate(name)
    elif choice < 0.75:
        other = world.random.choice(sorted(world.nodes))
        world.cut.add((name, other))
    else:
        world.heal()


def _house_keeping(world: World) -> None:
    node = world.random.choice(world.running)
    choice = world.random.random()
    if choice < 0.7:
        world.apply(node.name)
    elif choice < 0.85:
        world.snapshot(node.name, compact=world.random.random() < 0.7)
    else:
        world.fetch(node.name)


def misbehave(world: World, steps: int) -> None:
    """The scheduler: each step one thing happens somewhere."""
    chance = world.random
    loss = chance.choice((0.0, 0.05, 0.3))
    trouble = chance.choice((0.0, 0.01, 0.05))
    in_order = chance.random() < 0.4
    for _ in range(steps):
        choice = chance.random()
        running = world.running
        if choice < trouble or not running:
            _disturb(world)
        elif choice < 0.2:
            for node in chance.sample(running, chance.randint(1, len(running))):
                world.tick(node.name)
        elif choice < 0.4:
            world.sync(chance.choice(running).name, chance.choice((1, None)))
        elif choice < 0.6:
            leaders = _leaders(world)
            if leaders:
                _lead(world, chance.choice(leaders))
        elif choice < 0.7:
            _house_keeping(world)
        else:
            _deliver_some(world, loss, in_order)


def _deliver_some(world: World, loss: float, in_order: bool) -> None:
    chance = world.random
    for _ in range(min(len(world.packets), chance.randint(1, 6))):
        position = 0 if in_order else chance.randrange(min(len(world.packets), 30))
        if chance.random() < loss:
            del world.packets[position]
        else:
            world.deliver(position, keep=chance.random() < loss / 2)


def recover(world: World) -> None:
    """Calm: all run and reach each other; within bounded time one leads and all follow."""
    world.heal()
    world.packets.clear()
    for node in world.nodes.values():
        if node.core is None:
            world.start(node.name)
    for _ in range(30):
        world.run(ELECTION_TICKS)
        leaders = _leaders(world)
        if len(leaders) == 1 and world[leaders[0]].own_term_committed:
            break
    if not _leaders(world):
        cores = [node.up for node in world.nodes.values()]
        floors = [core.floor for core in cores]
        reached = max((core.last.term, core.last.index) for core in cores if core.is_voter)
        assert max(floors) > reached, "no leader, and no floor that forbids one"
        return  # what may have been acknowledged is gone from every disk: a person must decide
    leader = world[_leaders(world)[0]]
    frame = world.propose(leader.node_id)
    token = world.read(leader.node_id)
    world.run(6 * ELECTION_TICKS)
    assert frame.header.last_index <= leader.commit_index
    assert token in [t for t, _ in world.nodes[leader.node_id].reads]
    for member in leader.configuration.members:
        assert world[member.node_id].commit_index == leader.commit_index, f"{member.node_id} lags"


def run_seed(seed: int, voters: str, blank: str) -> World:
    world = World(voters, blank=blank, seed=seed, bytes_in_flight_max=600, append_bytes_max=400)
    misbehave(world, STEPS)
    recover(world)
    return world


@pytest.mark.parametrize("group", range(8))
@pytest.mark.parametrize(("voters", "blank"), [("abc", "de"), ("abcde", ""), ("ab", "c"), ("a", "bc")])
def test_random_schedules_keep_every_invariant_and_recover(voters: str, blank: str, group: int) -> None:
    """Figure 3."""
    commits = 0
    for seed in range(group * SEEDS_PER_TEST, (group + 1) * SEEDS_PER_TEST):
        try:
            commits += run_seed(seed, voters, blank).checker.commits
        except AssertionError as error:
            error.add_note(f"run_seed({seed}, {voters!r}, {blank!r})")
            raise
    assert commits > SEEDS_PER_TEST * 3, "schedules in which nothing happens test nothing"
