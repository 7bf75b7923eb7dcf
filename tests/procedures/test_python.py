"""The Python faces as docs/python.md tells them: its blocks, docs/examples, and what happens to clients
whose leader goes away or whose cluster is restored. One cluster for all; the last test ends it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neumann
import neumann.sync
from neumann.errors import ConditionFailed, NeumannError, TimelineChanged, WrongHistory
from tests.procedures.cluster import Cluster, must
from tests.procedures.pages import DOCS, Block, blocks

ROOT = DOCS.parent
PRINTED = "h1:7878,h2:7878,h3:7878"
BLOCKS = [
    b for page in (DOCS / "python.md", ROOT / "README.md") for b in blocks(page) if b.language == "python"
]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    raft = {"heartbeat_ms": 50, "election_timeout_ms": 250}
    with Cluster(tmp_path_factory.mktemp("cluster"), sections={"raft": raft}) as running:
        running.start("--bootstrap")
        running.wait_voters(3)
        yield running


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.section} {block.line}")
def test_block(block: Block, cluster: Cluster, tmp_path: Path) -> None:
    program = block.text.replace(PRINTED, cluster.contact)
    assert "h1:" not in program
    must(["env", "-C", tmp_path, sys.executable, "-W", "error", "-c", program])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, cluster: Cluster, tmp_path: Path) -> None:
    usage = re.search(
        rf"^python docs/examples/{path.name} (DIRECTORY|HOST:PORT)", path.read_text(), re.MULTILINE
    )
    assert usage is not None, "an example says how it is run"
    given = tmp_path / "data" if usage[1] == "DIRECTORY" else cluster.contact
    said = must([sys.executable, "-W", "error", path, given])
    expected = {
        "counter.py": "every value once: True\n",
        "exactly_once.py": "done now: True\ndone now: False\n[('ann', 60), ('bob', 40)]\n",
    }
    assert said.endswith(expected.get(path.name, "")) and said


async def test_a_client_follows_the_leader(cluster: Cluster) -> None:
    """Reads are asked again, and writes too: those whose connection broke behind them are done once."""
    async with neumann.connect(cluster.contact) as db:
        await db.put("followed", "before", 1)
        leader = cluster.leader()
        waiting = [asyncio.create_task(db.put("followed", f"k{n}", n)) for n in range(20)]
        reading = [asyncio.create_task(db.get("followed", "before")) for _ in range(20)]
        await asyncio.sleep(0)
        leader.kill()
        rows = await asyncio.gather(*reading)
        assert all(row is not None and row.value == 1 for row in rows)
        revisions = dict(enumerate(await asyncio.gather(*waiting)))
        assert await db.put("followed", "after", 1) > 0
        found = {row.key: row.revision async for row in db.scan("followed", prefix="k")}
        assert found == {f"k{n}": revision for n, revision in revisions.items()}
    leader.start("--bootstrap")
    cluster.wait_serving()


async def test_every_acknowledged_increment_counts_once(cluster: Cluster) -> None:
    """Bug 32 of other stores: the leader dies between commit and reply, the client tries again, and its
    command is applied twice, or taken for failed although it was done.

    Each client adds one if the row is still the one it read. So the counter is the number of successes.
    """
    kills, is_over = 3, False

    async def count(key: str) -> int:
        done = 0
        async with neumann.connect(cluster.contact, timeout_s=30.0) as db:
            while not is_over:
                row = await db.get("counted", key)
                try:
                    if row is None:
                        await db.put("counted", key, 1, if_absent=True)
                    else:
                        await db.put("counted", key, row.value + 1, if_revision=row.revision)
                except ConditionFailed:
                    continue
                done += 1
        return done

    counting = [asyncio.create_task(count(f"c{n % 4}")) for n in range(8)]
    for _ in range(kills):
        await asyncio.sleep(0.5)
        leader = await asyncio.to_thread(cluster.leader)
        leader.kill()
        await asyncio.sleep(1.0)
        leader.start("--bootstrap")
        await asyncio.to_thread(cluster.wait_serving)
    is_over = True
    done = await asyncio.gather(*counting)
    async with neumann.connect(cluster.contact) as db:
        total = sum([row.value async for row in db.scan("counted")])
    assert total == sum(done) > 50


def test_a_client_does_not_follow_a_restore(cluster: Cluster, tmp_path: Path) -> None:
    """Nor does it take another cluster for its own; a new client is at home at once."""
    with (
        neumann.sync.connect(cluster.contact) as db,
        neumann.sync.connect(cluster.contact) as stranger,
    ):
        db.put("restored", "k", 1)
        cluster.stop()
        first = cluster["n1"]
        first.must_admin("init-cluster", "--bootstrap", "--new-timeline", "--yes")
        first.start("--bootstrap")
        cluster.wait_serving()
        for _ in range(2):
            with pytest.raises(TimelineChanged):
                db.get("restored", "k")
        with neumann.sync.connect(first.address) as anew:
            assert (row := anew.get("restored", "k")) is not None and row.value == 1

        first.stop()
        must(["mv", first.data, tmp_path])
        must(["mkdir", first.data])
        first.must_admin("init-cluster", "--bootstrap", "--yes")
        first.start("--bootstrap")
        cluster.wait_serving()
        with pytest.raises(WrongHistory) as refused:
            stranger.get("restored", "k")
        assert type(refused.value) is WrongHistory


def test_the_table_of_errors_names_errors_that_there_are() -> None:
    table = (DOCS / "python.md").read_text().partition("## What can go wrong")[2]
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))
    assert {"OutcomeUnknown", "TimelineChanged"} <= named
    assert named <= {cls.__name__ for cls in _classes(NeumannError)}


def _classes(base: type[NeumannError]) -> Iterator[type[NeumannError]]:
    yield base
    for below in base.__subclasses__():
        yield from _classes(below)
