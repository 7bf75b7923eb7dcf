"""The start-up table (interface.md, section 5): one test a row, on the pure function."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import File
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Configuration, Timeline
from neumann.format.names import Paths
from neumann.recovery import formation
from neumann.runtime.rejoin import refusal
from neumann.runtime.startup import Action, Answer, Data, Decision, Found, decide, look
from tests.recovery.world import Cluster, segment_files
from tests.sim.disk import SimDisk

CLUSTER, OTHER = b"c" * 16, b"o" * 16
ROOT = HistoryRecord(Timeline(1, 11), None, 0, 0, 0, 0, 1, "bootstrap")
CHILD = HistoryRecord(Timeline(2, 22), Timeline(1, 11), 50, 5, 10**9, 3, 2, "restore")
SIBLING = HistoryRecord(Timeline(2, 33), Timeline(1, 11), 60, 6, 10**9, 3, 2, "restore")
OLD, NEW = History(CLUSTER, (ROOT,)), History(CLUSTER, (ROOT, CHILD))
AUNT, FOREIGN = History(CLUSTER, (ROOT, SIBLING)), History(OTHER, (ROOT,))
DATA = Data(Timeline(1, 11), 40, b"d" * 32, 4)
PEERS = frozenset({"n2", "n3"})
ALL = frozenset({"n1", "n2", "n3"})


def choose(found: Found, *answers: Answer, bootstrap: bool = False, node_id: str = "n1") -> Decision:
    peers = ALL - {node_id}
    return decide(found, node_id, peers, {a.node_id: a for a in answers}, bootstrap=bootstrap)


def leader(node_id: str = "n2", history: History = OLD, *, lists_us: bool = True) -> Answer:
    return Answer(
        node_id,
        vote=True,
        history=history,
        leader=node_id,
        leader_address="h:1",
        lists_us=lists_us,
        peers=ALL,
    )


def empty(node_id: str, data: Data | None = None) -> Answer:
    return Answer(node_id, data=data, peers=ALL, lists_us=True)


def test_restore_journal_is_finished_first() -> None:
    assert choose(Found(journal=True, vote=True, history=OLD)).action is Action.FINISH_RESTORE


def test_member_of_the_same_timeline_runs() -> None:
    assert choose(Found(vote=True, history=OLD), leader()).action is Action.RUN


def test_member_whose_peers_are_silent_runs() -> None:
    assert choose(Found(vote=True, history=OLD)).action is Action.RUN


def test_member_of_an_ancestor_waits_while_the_descendant_is_led() -> None:
    decision = choose(Found(vote=True, history=OLD), leader(history=NEW))
    assert decision.action is Action.WAIT
    assert "1-000000000000000b" in decision.reason and "2-0000000000000016" in decision.reason
    assert "forked at index 50" in decision.reason and "rejoin" in decision.remedy


def test_member_of_a_descendant_waits_while_the_ancestor_is_led() -> None:
    assert choose(Found(vote=True, history=NEW), leader(history=OLD)).action is Action.WAIT


REMOVED = frozenset({"n2", "n3"})


def test_a_member_that_was_removed_waits_and_says_so() -> None:
    """Nobody tells it: the leader's messages end with the entry that removes it."""
    found = Found(vote=True, history=OLD, members_index=7)
    decision = choose(found, leader()._replace(members=REMOVED, members_index=9))
    assert decision.action is Action.WAIT
    assert "n1 was removed" in decision.reason and "member-add n1=" in decision.remedy


def test_it_runs_where_somebody_knows_it_as_a_member_or_knows_nothing_newer() -> None:
    found = Found(vote=True, history=OLD, members_index=7)
    denying = leader()._replace(members=REMOVED, members_index=9)
    naming = leader("n3")._replace(members=ALL, members_index=8)
    assert choose(found, denying, naming).action is Action.RUN
    for harmless in (
        denying._replace(members_index=6),  # a peer that lags behind the entry that took this node in
        denying._replace(members=frozenset(), members_index=0),  # a change is on its way
        denying._replace(leader=""),
        denying._replace(history=FOREIGN),
    ):
        assert choose(found, harmless).action is Action.RUN


def test_member_of_a_sibling_stays_and_runs() -> None:
    assert choose(Found(vote=True, history=AUNT), leader(history=NEW)).action is Action.RUN


def test_member_of_a_foreign_cluster_stays_and_runs() -> None:
    assert choose(Found(vote=True, history=OLD), leader(history=FOREIGN)).action is Action.RUN


def test_formation_guard_holds_a_sole_voter_back_while_another_history_is_served() -> None:
    for history in (OLD, AUNT, FOREIGN):
        found = Found(vote=True, sole_voter=True, history=NEW)
        assert choose(found, leader(history=history)).action is Action.WAIT


def test_formation_guard_counts_another_sole_voter() -> None:
    other = Answer("n2", vote=True, sole_voter=True, history=AUNT, peers=ALL)
    assert choose(Found(vote=True, sole_voter=True, history=NEW), other).action is Action.WAIT


def test_formation_guard_lets_leaderless_and_silent_peers_be() -> None:
    stale = Answer("n2", vote=True, history=OLD, peers=ALL)
    assert choose(Found(vote=True, sole_voter=True, history=NEW), stale).action is Action.RUN


def test_data_without_vote_joins_a_leader_of_its_cluster() -> None:
    decision = choose(Found(history=OLD, data=DATA), leader(history=NEW))
    assert decision.action is Action.JOIN
    assert decision.leader is not None and decision.leader.node_id == "n2"


def test_data_without_vote_does_not_join_another_cluster() -> None:
    decision = choose(Found(history=OLD, data=DATA), leader(history=FOREIGN))
    assert decision.action is Action.WAIT
    assert CLUSTER.hex() in decision.reason and OTHER.hex() in decision.reason


def test_data_without_vote_and_nobody_leading_waits_and_prints_the_line() -> None:
    decision = choose(Found(history=OLD, data=DATA), empty("n2"), empty("n3"))
    assert decision.action is Action.WAIT
    assert "neumann-admin init-cluster --bootstrap" in decision.remedy


def test_nothing_joins_a_leader_that_lists_it() -> None:
    assert choose(Found(), leader()).action is Action.JOIN


def test_nothing_is_not_taken_in_by_a_leader_that_does_not_list_it() -> None:
    decision = choose(Found(), leader(lists_us=False))
    assert decision.action is Action.WAIT and "peers" in decision.reason


def test_a_leader_whose_address_nobody_tells_is_not_joined() -> None:
    """A follower knows its leader before the leader's configuration has reached it; joining then ended
    the node."""
    assert choose(Found(), leader()._replace(leader_address="")).action is Action.WAIT


def test_nothing_that_hears_of_two_clusters_joins_neither_and_names_both() -> None:
    decision = choose(Found(), leader("n2", OLD), leader("n3", FOREIGN))
    assert decision.action is Action.WAIT
    assert CLUSTER.hex() in decision.reason and OTHER.hex() in decision.reason


def test_nothing_without_flag_never_forms() -> None:
    assert choose(Found(), empty("n2"), empty("n3")).action is Action.WAIT


def test_bootstrap_with_nobody_holding_data_forms_at_the_smallest_id_only() -> None:
    assert choose(Found(), empty("n2"), empty("n3"), bootstrap=True).action is Action.FORM
    others = choose(Found(), empty("n1"), empty("n3"), bootstrap=True, node_id="n2")
    assert others.action is Action.WAIT and "n1 begins" in others.reason


def test_bootstrap_waits_for_every_configured_peer_and_names_who_is_silent() -> None:
    decision = choose(Found(), empty("n2"), bootstrap=True)
    assert decision.action is Action.WAIT and "n3" in decision.reason


def test_bootstrap_does_not_form_beside_a_vote() -> None:
    voting = Answer("n2", vote=True, history=OLD, peers=ALL)
    assert choose(Found(), voting, empty("n3"), bootstrap=True).action is Action.WAIT


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("found", [Found(), Found(history=OLD, data=DATA)])
def test_beside_a_vote_that_cannot_lead_the_way_out_is_named(found: Found, bootstrap: bool) -> None:
    """Bug: two of three disks were gone, and the way out that an empty node named was init-cluster, which
    made a second, empty cluster beside the one member that had the data; or it named none."""
    voting = Answer("n2", vote=True, history=OLD, peers=ALL)
    for others in ((voting,), (voting, empty("n3"))):
        decision = choose(found, *others, bootstrap=bootstrap)
        assert decision.action is Action.WAIT and decision.reason.startswith("n2 has a vote")
        assert "--new-timeline" in decision.remedy and "empty cluster" not in decision.remedy


def test_bootstrap_with_the_same_data_everywhere_adopts_at_the_smallest_id() -> None:
    found = Found(history=OLD, data=DATA)
    assert choose(found, empty("n2", DATA), empty("n3", DATA), bootstrap=True).action is Action.ADOPT
    others = choose(found, empty("n1", DATA), empty("n3", DATA), bootstrap=True, node_id="n2")
    assert others.action is Action.WAIT


def test_bootstrap_with_data_on_some_only_waits_and_lists_who_has_what() -> None:
    decision = choose(Found(history=OLD, data=DATA), empty("n2", DATA), empty("n3"), bootstrap=True)
    assert decision.action is Action.WAIT
    assert "n3: nothing" in decision.reason and "n2: timeline" in decision.reason


def test_bootstrap_with_data_that_differ_waits() -> None:
    other = DATA._replace(digest=b"x" * 32)
    decision = choose(Found(history=OLD, data=DATA), empty("n2", DATA), empty("n3", other), bootstrap=True)
    assert decision.action is Action.WAIT and "different" in decision.reason


def test_bootstrap_waits_where_peers_name_other_peers() -> None:
    odd = Answer("n2", peers=frozenset({"n1", "n2"}))
    decision = choose(Found(), odd, empty("n3"), bootstrap=True)
    assert decision.action is Action.WAIT and "other peers" in decision.reason


def test_bootstrap_with_a_vote_is_a_no_op() -> None:
    assert choose(Found(vote=True, history=OLD), empty("n2"), bootstrap=True).action is Action.RUN


def test_what_is_not_ours_is_refused_by_name() -> None:
    decision = choose(Found(foreign=("holiday.jpg",)))
    assert decision.action is Action.REFUSE and "holiday.jpg" in decision.reason


UNREADABLE = Found(vote=True, history=OLD, unreadable="raft/vote: fails its checksum")


def test_a_vote_that_cannot_be_read_is_no_state_and_the_node_joins_anew() -> None:
    assert choose(UNREADABLE, leader()).action is Action.JOIN


def test_a_vote_that_cannot_be_read_forms_and_adopts_nothing() -> None:
    """It had state, so entries may be acknowledged that no disk of the others has."""
    decision = choose(UNREADABLE, empty("n2"), empty("n3"), bootstrap=True)
    assert decision.action is Action.WAIT and "raft/vote" in decision.reason
    assert "wal-replay" in decision.remedy


def test_a_sole_voter_whose_vote_cannot_be_read_refuses() -> None:
    decision = choose(UNREADABLE._replace(sole_voter=True), bootstrap=True)
    assert decision.action is Action.REFUSE and "wal-replay" in decision.remedy


def test_a_replica_that_has_diverged_stays_out_until_somebody_rejoins_it() -> None:
    found = Found(vote=True, history=OLD, diverged="snapshot 7 differs from the majority's")
    for answers in ((), (leader(),)):
        decision = choose(found, *answers, bootstrap=True)
        assert decision.action is Action.WAIT and "snapshot 7 differs" in decision.reason
        assert "rejoin" in decision.remedy


def test_a_manifest_from_before_it_was_a_voter_does_not_make_a_node_the_only_one() -> None:
    """Bug: one voter in the newest manifest was taken for this node, also where it was the leader that the
    node had joined; so a stopped member could not rejoin, as a restore of another one wants it."""
    disk = SimDisk()
    paths = Paths("/data")
    disk.make_dirs(paths.root)
    manifest = formation.empty_base("n1", "n1:7878", b"s" * 16, 1, b"c" * 16, 7, 4096)
    formation.write_member(disk, paths, manifest, "n2", b"t" * 16, 64 * 1024, 0)
    found = look(disk, paths)
    assert found.vote and not found.sole_voter
    assert refusal(found, "n2", {}, is_stopped=True) is None


def test_the_log_tells_of_voters_that_the_manifest_does_not_know_yet(tmp_path: Path) -> None:
    """Bug: the node that a cluster was formed with was taken for its only voter until its next snapshot."""
    cluster = Cluster.fresh(RealDisk(), str(tmp_path))
    assert look(cluster.disk, cluster.paths).sole_voter
    (own,) = cluster.manifest.configuration.members
    cluster.say(Configuration((own, own._replace(node_id="n2"))))
    cluster.put("a", 1)
    found = look(cluster.disk, cluster.paths)
    assert not found.sole_voter
    assert refusal(found, "n1", {}, is_stopped=True) is None


def test_of_the_log_only_what_is_behind_the_manifest_is_looked_at(tmp_path: Path) -> None:
    """Bug: the only voter read its whole log before the opening read what it needs of it."""

    class Watched(RealDisk):
        def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
            opened.append(path)
            return super().open(path, write=write, create=create)

    opened: list[str] = []
    cluster = Cluster.fresh(RealDisk(), str(tmp_path))
    for number in range(3):
        cluster.put("a", number)
        cluster.seal()
    cluster.snapshot()
    cluster.put("a", 4)
    assert look(Watched(), cluster.paths).sole_voter
    segments = [path for path in opened if path.endswith(".wal")]
    assert (
        segments == [str(segment_files(cluster.paths.wal)[-1])] and len(segment_files(cluster.paths.wal)) > 3
    )
