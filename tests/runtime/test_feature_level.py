"""Feature levels (design section 5): a leader raises it when all members announce it, not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.errors import FormatTooNew
from neumann.format import manifest as manifest_format
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.special import Marker
from neumann.runtime import duties
from neumann.runtime.member import Member
from tests.format.examples import MANIFEST
from tests.runtime.nodes import cluster, config_of, leads, one_node, until

NEXT = FEATURE_LEVEL + 1


def test_a_manifest_of_a_later_level_is_refused_by_name() -> None:
    data = manifest_format.encode(MANIFEST._replace(feature_level=NEXT))
    with pytest.raises(FormatTooNew, match=f"/m: feature level {NEXT}; .* up to {FEATURE_LEVEL}"):
        manifest_format.decode(data, "/m")


async def test_a_member_that_lacks_the_cluster_s_level_stops_and_names_it(tmp_path: Path) -> None:
    """What later levels shape differently it would shape wrongly, and call the others divergent."""
    async with one_node(config_of(tmp_path)) as node:
        own = node.member
        assert own is not None
        before = own.manifest
        own.proposer.propose_now(Marker(snapshot=True, feature_level=NEXT))
        await until(lambda: own.failure is not None, "it stops")
        assert isinstance(own.failure, FormatTooNew)
        assert f"feature level {NEXT}" in str(own.failure) and str(NEXT) in own.failure.remedy
        assert own.manifest == before and not node.serving()[0]


async def test_one_member_without_the_level_holds_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader, and then all, run a release that knows one level more."""
    announced: dict[str, int] = {}
    status = Member._status

    def told(self: Member) -> object:
        level = announced.get(self.identity.node_id, FEATURE_LEVEL)
        return status(self)._replace(feature_level=level)

    monkeypatch.setattr(Member, "_status", told)
    async with cluster(tmp_path) as running:
        leader = next(one.node for one in running if leads(one.node))
        assert leader.member is not None
        monkeypatch.setattr(duties, "FEATURE_LEVEL", NEXT)
        own = leader.member.duties
        names = {one.node.config.node.id for one in running}
        others = sorted(names - {leader.config.node.id})
        for ready in ([], others[:1]):
            announced |= dict.fromkeys(ready, NEXT)
            for _ in range(2):
                await leader.barrier()
            assert own._feature_level() == FEATURE_LEVEL
        announced |= dict.fromkeys(others, NEXT)
        await until(lambda: own._feature_level() == NEXT, "all have announced it")
        await running[[one.node.config.node.id for one in running].index(others[0])].stop()
        await until(lambda: own._feature_level() == FEATURE_LEVEL, "one is away")
