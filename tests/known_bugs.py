"""What other Raft systems got wrong, and the test that holds us to each: the index of `Bug N`.

A test that is named here says `Bug N` (or `Bugs N and M`) in its docstring and opens with a sentence on the
bug; tests/test_known_bugs.py checks that, and that no row is without a test or a reason. Rows keep their
numbers. What is planted of them: tests/mutations/table.py.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """`tests` are node ids below tests/; `reason` is why there can't be one here."""

    what: str
    source: str
    tests: tuple[str, ...] = ()
    reason: str = ""


ELECTION = "raft/test_election.py::"
REPLICATION = "raft/test_replication.py::"
FRAMES = "raft/test_frame_rules.py::"
MEMBERS = "raft/test_reconfiguration.py::"
READS = "raft/test_read_index.py::"
LESSONS = "raft/test_lessons.py::"

BUGS = {
    1: Bug(
        "Two leaders each change one server of the same configuration; both new ones commit, in majorities "
        "that do not meet.",
        "raft-dev t4xj6dJTP6E (Ongaro 2015); braft #182; hashicorp/raft configurationChangeChIfStable",
        (
            MEMBERS + "test_no_configuration_before_an_entry_of_the_own_term_is_committed",
            LESSONS + "test_two_leaders_that_each_change_one_server",
        ),
    ),
    2: Bug(
        "A configuration counts only once it is applied; a node that lags campaigns with an old one.",
        "etcd #7625, #2397, #5004",
        (MEMBERS + "test_a_configuration_is_in_force_from_its_append_on_leader_and_follower",),
    ),
    3: Bug(
        "A snapshot is installed while an older configuration still waits: memory and disk differ.",
        "etcd #11510; tikv #6344",
        (MEMBERS + "test_a_snapshot_brings_its_configuration_and_the_log_the_later_ones",),
    ),
    4: Bug(
        "A new learner refuses the snapshot that is older than its own entry, for ever.",
        "raft-rs #472; etcd #13741",
        (MEMBERS + "test_a_blank_node_behind_a_dropped_log_starts_from_the_snapshot",),
    ),
    5: Bug(
        "The applied index is saved apart from the data: after a crash replicas hold different rows.",
        "etcd #13766 and the postmortem of v3.5",
        ("store/test_checkpoint.py::test_nor_on_a_loss_of_power_at_any_change_of_the_disk",),
    ),
    6: Bug(
        "The same, through a rewrite of the store (defragment).",
        "etcd #14685",
        ("store/test_checkpoint.py::test_one_loss_of_power_at_each_change_of_the_disk",),
    ),
    7: Bug(
        "A cluster of one node answers before its log is synced.",
        "etcd #14370, #10508",
        (
            LESSONS + "test_a_sole_voter_commits_only_what_its_own_disk_has",
            "sim/test_teeth.py::test_a_disk_that_does_not_sync",
        ),
    ),
    8: Bug(
        "A segment is renamed or created, and its directory is not synced.",
        "etcd #6368",
        (
            "sim/test_disk_conformance.py::test_a_name_is_lost_or_kept_without_sync_dir",
            "wal/test_crash.py::test_a_crash_at_every_change_of_the_disk",
        ),
    ),
    9: Bug(
        "The log is dropped before what replaces it is durable: `tocommit is out of range`.",
        "etcd #10219",
        ("snapshot/test_install.py::test_every_crash_point_of_placing",),
    ),
    10: Bug(
        "A torn last batch can't be repaired, and the node never starts again.",
        "etcd #6515, #6271, #14098, #2736",
        (
            "wal/test_recover.py::test_a_torn_batch_is_cut_also_when_valid_frames_follow",
            "wal/test_crash.py::test_random_schedules",
        ),
    ),
    11: Bug(
        "A full disk leaves a log that is damaged, or acknowledges what was not written.",
        "etcd #3591, #2819; cockroach #32631; RaftKeeper #287; canonical/raft #470",
        (
            "wal/test_writer.py::test_a_seal_is_durable_though_there_is_no_room_for_the_next_segment",
            "wal/test_writer.py::test_a_restart_while_the_next_segment_waits_for_room",
        ),
    ),
    12: Bug(
        "Term and vote are forgotten in a restart, and the vote is given again.",
        "PySyncObj #84, #201, #202",
        (
            ELECTION + "test_one_vote_in_a_term_and_it_is_kept_over_a_restart",
            REPLICATION + "test_unsynced_frames_and_votes_may_vanish_with_all_nodes",
        ),
    ),
    13: Bug(
        "Term and vote are two writes, and a crash comes between them.",
        "hashicorp/raft #661",
        ("wal/test_slots.py::test_a_crash_at_every_change",),
    ),
    14: Bug(
        "A leader commits an entry of an earlier term because a majority has it (figure 8).",
        "PySyncObj #169; canonical/raft #336",
        (
            REPLICATION + "test_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting",
            REPLICATION + "test_figure_8_played_by_five_nodes",
        ),
    ),
    15: Bug(
        "The commit index goes back under a new leader that knows less.",
        "PySyncObj #166",
        (FRAMES + "test_the_commit_index_never_falls",),
    ),
    16: Bug(
        "What a follower matches goes back when answers are reordered.",
        "PySyncObj #167; raftos #25",
        ("raft/test_progress.py::test_match_never_falls_when_answers_are_reordered",),
    ),
    17: Bug(
        "An old, shorter AppendEntries cuts what came after it.",
        "raftos #26; openraft 9540c904; CCF #5991, #6016",
        (
            FRAMES + "test_an_old_shorter_append_cuts_nothing",
            "sim/test_teeth.py::test_an_old_append_that_cuts_the_log",
        ),
    ),
    18: Bug(
        "A follower commits beyond what the message has shown it to share with the leader.",
        "atomix/copycat #265",
        (FRAMES + "test_the_commit_index_goes_no_further_than_what_the_append_covers",),
    ),
    19: Bug(
        "A new leader answers a read before it has committed in its term.",
        "etcd #7331; tikv #9208, #9239",
        (READS + "test_a_new_leader_answers_no_read_before_it_committed_in_its_term",),
    ),
    20: Bug(
        "An answer to an earlier request confirms a later read: stale after a pause of the leader.",
        "etcd #20418",
        (READS + "test_an_answer_to_an_earlier_round_confirms_nothing",),
    ),
    21: Bug(
        "Reads by lease break on a transfer and on a slow clock.",
        "tikv #1593, #964; Yugabyte #16",
        reason="There are no reads by lease: each linearizable read is confirmed by a round of a majority.",
    ),
    22: Bug(
        "A leader that was paused revokes leases which its successor has renewed.",
        "etcd #15247, #12528",
        reason="There are no leases, and no command that a clock alone lets happen: the end of a pause of "
        "writes is an entry, which a leader of an earlier term can't commit.",
    ),
    23: Bug(
        "With pre-vote a node of a lower term is ignored, and never comes along.",
        "etcd #8243, #8501",
        (
            ELECTION + "test_a_node_of_a_lower_term_is_told_and_comes_along",
            ELECTION + "test_a_leader_of_a_lower_term_is_told_and_steps_down",
        ),
    ),
    24: Bug(
        "Pre-vote and check-quorum keep each other from ever electing a leader.",
        "etcd #8334, #9586; raft-rs #84",
        (LESSONS + "test_a_node_ahead_in_terms_and_behind_in_its_log_does_not_block_elections",),
    ),
    25: Bug(
        "Who was cut off comes back with a high term and deposes the leader.",
        "etcd #8499; thesis 4.2.3",
        (ELECTION + "test_who_was_cut_off_disturbs_nobody_when_it_comes_back",),
    ),
    26: Bug(
        "With some links lost between some pairs, no leader lasts.",
        "Cloudflare 2020-11-02; decentralizedthoughts 2020-12-12",
        (ELECTION + "test_the_graph_of_partial_links_finds_a_stable_leader",),
    ),
    27: Bug(
        "A leader whose disk stalls goes on with heartbeats, and nothing is written.",
        "hashicorp/raft #503, #612, #683; consul #3552",
        (
            ELECTION + "test_step_down_makes_room_for_the_follower_that_has_most",
            "sim/test_operations.py::test_a_leader_whose_disk_stalls_lets_another_lead",
        ),
    ),
    28: Bug(
        "An append behind a compacted log names term 0 for its prev, and panics the follower.",
        "etcd-io/raft #31",
        (
            REPLICATION + "test_who_needs_what_was_dropped_is_offered_the_published_snapshot",
            REPLICATION + "test_the_log_may_be_dropped_while_it_is_being_sent",
        ),
    ),
    29: Bug(
        "A report of a write is taken for a later write of the same index (ABA).",
        "etcd-io/raft testdata/async_storage_writes_append_aba_race",
        (FRAMES + "test_a_durable_report_of_a_frame_that_was_cut_and_came_back_is_ignored",),
    ),
    30: Bug(
        "A snapshot that comes late discards a newer log, committed entries included.",
        "camunda #6092, #10202; NuRaft #407; RedisLabs/raft #49",
        (
            FRAMES + "test_an_offer_of_what_the_log_has_is_only_a_commit_index",
            "runtime/test_install.py::test_a_snapshot_that_the_log_has_passed_replaces_nothing",
        ),
    ),
    31: Bug(
        "Two snapshots close after each other panic the receiver.",
        "etcd #18055",
        (FRAMES + "test_an_offer_of_what_the_log_has_is_only_a_commit_index",),
    ),
    32: Bug(
        "A client sends again what was committed, and it is applied twice.",
        "Jepsen jetcd 0.8.2; raftos #2",
        (
            "machine/test_sessions.py::test_a_repeated_command_changes_nothing_and_is_answered_the_same",
            "sim/test_sessions.py::test_a_repeat_that_is_applied",
        ),
    ),
    33: Bug(
        "A node comes back under its id with an empty disk, and votes.",
        "etcd #10817, #10166; TigerBeetle recovering.md",
        (
            ELECTION + "test_no_leader_without_a_vote_record_and_no_vote",
            "raft/test_storages.py::test_one_voter_does_not_vote_for_two_storages_of_one_node",
        ),
    ),
    34: Bug(
        "A restored cluster and old members take each other for one cluster.",
        "etcd op-guide/recovery (new cluster id, bump of revisions)",
        ("procedures/test_timelines.py::test_old_members_that_start_beside_a_restored_node_do_not_serve",),
    ),
    35: Bug(
        "Refusals that come late or twice send leader and follower round in circles.",
        "CCF #2835, #3723; CCF and openraft, 50-inconsistent-logs",
        (REPLICATION + "test_old_and_doubled_refusals_do_not_lead_astray",),
    ),
    36: Bug(
        "A leader that was cut off answers reads from its own memory.",
        "Jepsen, etcd and Consul 2014",
        (
            READS + "test_a_leader_that_was_cut_off_confirms_nothing",
            "sim/test_teeth.py::test_reads_that_nobody_confirmed",
        ),
    ),
    37: Bug(
        "Twenty-one at once: split brain, total loss on failover, and more.",
        "Jepsen, Redis-Raft 1b3fbf6",
        ("sim/test_sim.py::test_each_kind_of_fault_alone", "faults/test_soak.py::test_a_short_run"),
    ),
    38: Bug(
        "A lock is taken for mutual exclusion, and its late holder still writes.",
        "Jepsen, etcd 3.4.3",
        ("machine/test_apply.py::test_the_revision_of_a_lock_fences_its_late_holder",),
    ),
    39: Bug(
        "A vote or an acknowledgement of an earlier term is counted: two leaders in a term.",
        "Xraft #33, #40; SandTable",
        (
            ELECTION + "test_answers_of_another_term_are_not_counted",
            REPLICATION + "test_acknowledgements_of_another_term_are_not_counted",
        ),
    ),
    40: Bug(
        "Committed entries are lost with unsynced data.",
        "etcd #14140, #14143 (not reproduced, and the tool was doubted)",
        reason="Never confirmed. What it feared is bug 7, and what the simulated disk does at each crash.",
    ),
}
