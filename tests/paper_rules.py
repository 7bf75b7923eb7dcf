"""Every rule of the Raft paper's figures 2, 3 and 13 and of the thesis's chapters on membership (4), transfer
(3.10), reads (6.4) and pre-vote (9.6), with the tests that hold us to it: the index of the paper tests.

A test that is named here names the place in its docstring; tests/test_paper_rules.py checks that, and that
no rule is without a test or a reason.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """`place` is what the tests name; `reason` is why the rule has no test of its own here."""

    place: str
    what: str
    tests: tuple[str, ...] = ()
    reason: str = ""


ELECTION = "raft/test_election.py::"
REPLICATION = "raft/test_replication.py::"
FRAMES = "raft/test_frame_rules.py::"
MEMBERS = "raft/test_reconfiguration.py::"
READS = "raft/test_read_index.py::"
PAPER = "raft/test_paper.py::"

RULES = (
    Rule(
        "figure 2, state",
        "currentTerm, votedFor and log are on stable storage before a server answers.",
        (
            ELECTION + "test_one_vote_in_a_term_and_it_is_kept_over_a_restart",
            FRAMES + "test_an_answer_names_nothing_that_is_not_durable",
        ),
    ),
    Rule(
        "figure 2, AppendEntries 1",
        "Reply false if term < currentTerm.",
        (ELECTION + "test_a_leader_of_a_lower_term_is_told_and_steps_down",),
    ),
    Rule(
        "figure 2, AppendEntries 2",
        "Reply false if the log has no entry at prevLogIndex with prevLogTerm.",
        (
            FRAMES + "test_a_gap_is_refused_with_the_own_end",
            FRAMES + "test_a_refusal_names_the_end_before_the_conflicting_frame",
        ),
    ),
    Rule(
        "figure 2, AppendEntries 3",
        "If an entry conflicts with a new one, delete it and all that follow it.",
        (
            FRAMES + "test_a_frame_of_another_term_in_its_place_replaces_the_local_tail",
            FRAMES + "test_an_old_shorter_append_cuts_nothing",
        ),
    ),
    Rule(
        "figure 2, AppendEntries 4",
        "Append any new entries not already in the log.",
        (FRAMES + "test_what_is_here_already_is_acknowledged_and_not_written_again",),
    ),
    Rule(
        "figure 2, AppendEntries 5",
        "commitIndex = min(leaderCommit, index of the last new entry).",
        (FRAMES + "test_the_commit_index_goes_no_further_than_what_the_append_covers",),
    ),
    Rule(
        "figure 2, RequestVote 1",
        "Reply false if term < currentTerm.",
        (PAPER + "test_a_request_of_an_earlier_term_gets_no_vote",),
    ),
    Rule(
        "figure 2, RequestVote 2",
        "Vote if votedFor is null or the candidate, and its log is at least as up to date.",
        (
            ELECTION + "test_one_vote_in_a_term_and_it_is_kept_over_a_restart",
            ELECTION + "test_a_vote_goes_only_to_a_log_at_least_as_far",
        ),
    ),
    Rule(
        "figure 2, all servers 1",
        "Apply up to commitIndex.",
        (PAPER + "test_what_is_committed_may_be_applied_and_nothing_else",),
    ),
    Rule(
        "figure 2, all servers 2",
        "A later term in a request or a reply: adopt it, become follower.",
        (PAPER + "test_whoever_hears_of_a_later_term_follows_in_it",),
    ),
    Rule(
        "figure 2, followers 2",
        "Become candidate if the timeout elapses without AppendEntries or granting a vote.",
        (
            ELECTION + "test_a_follower_hears_nothing_and_asks_before_it_enters_a_term",
            PAPER
            + "test_a_vote_that_is_given_restarts_the_election_timeout_and_one_that_is_refused_does_not",
        ),
    ),
    Rule(
        "figure 2, candidates 1",
        "Increment the term, vote for oneself, restart the timer, ask all.",
        (ELECTION + "test_a_candidate_asks_only_when_its_own_vote_is_durable",),
    ),
    Rule(
        "figure 2, candidates 2",
        "Votes of a majority: become leader.",
        (
            ELECTION + "test_nobody_leads_before_the_own_vote_is_durable",
            "raft/test_quorum.py::test_vote_result",
        ),
    ),
    Rule(
        "figure 2, candidates 3",
        "AppendEntries of a new leader: become follower.",
        (PAPER + "test_a_candidate_follows_the_leader_of_its_term",),
    ),
    Rule(
        "figure 2, candidates 4",
        "The timeout elapses: a new election.",
        (PAPER + "test_a_candidate_that_nobody_answers_stands_again",),
    ),
    Rule(
        "figure 2, leaders 1",
        "Empty AppendEntries upon election, and while idle.",
        (PAPER + "test_a_new_leader_makes_itself_known_at_once_and_at_each_heartbeat",),
    ),
    Rule(
        "figure 2, leaders 2",
        "A command is answered once its entry is committed and applied.",
        (REPLICATION + "test_an_entry_is_committed_when_a_majority_has_it_durable_the_leader_included",),
    ),
    Rule(
        "figure 2, leaders 3",
        "Send from nextIndex; success moves nextIndex and matchIndex, a conflict moves nextIndex back.",
        (
            REPLICATION + "test_a_new_leader_probes_without_frames_and_jumps_to_where_the_logs_agree",
            "raft/test_progress.py::test_match_never_falls_when_answers_are_reordered",
        ),
    ),
    Rule(
        "figure 2, leaders 4",
        "Commit N if a majority matches it and it is of the current term.",
        (REPLICATION + "test_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting",),
    ),
    Rule(
        "figure 3",
        "Election safety, leader append-only, log matching, leader completeness, state machine safety.",
        ("raft/test_chaos.py::test_random_schedules_keep_every_invariant_and_recover",),
    ),
    Rule(
        "figure 7",
        "A new leader brings followers with any kind of log to its own.",
        ("raft/test_scenarios.py::test_scenario",),
    ),
    Rule(
        "figure 13, InstallSnapshot 1",
        "Reply immediately if term < currentTerm.",
        (PAPER + "test_a_snapshot_of_an_earlier_term_s_leader_is_not_fetched",),
    ),
    Rule(
        "figure 13, InstallSnapshot 2..4",
        "Chunks are written at their offsets until the last one is there.",
        ("snapshot/test_install.py::test_lost_calls_are_repeated_and_what_arrived_is_not_fetched_again",),
    ),
    Rule(
        "figure 13, InstallSnapshot 5",
        "Save the snapshot, discard any with a smaller index.",
        ("snapshot/test_install.py::test_every_crash_point_of_placing",),
    ),
    Rule(
        "figure 13, InstallSnapshot 6",
        "If the log has the snapshot's last entry, keep what follows it.",
        (FRAMES + "test_an_offer_of_what_the_log_has_is_only_a_commit_index",),
    ),
    Rule(
        "figure 13, InstallSnapshot 7",
        "Else discard the entire log.",
        (FRAMES + "test_a_snapshot_replaces_a_log_that_it_does_not_continue",),
    ),
    Rule(
        "figure 13, InstallSnapshot 8",
        "Load the snapshot's configuration.",
        (
            FRAMES + "test_a_snapshot_replaces_a_log_that_it_does_not_continue",
            MEMBERS + "test_a_snapshot_brings_its_configuration_and_the_log_the_later_ones",
        ),
    ),
    Rule(
        "thesis 3.10, step 1",
        "The prior leader stops accepting requests.",
        (ELECTION + "test_transfer_waits_for_the_log_and_gives_up_after_an_election_timeout",),
    ),
    Rule(
        "thesis 3.10, step 2",
        "It brings the target's log up to its own.",
        (ELECTION + "test_transfer_waits_for_the_log_and_gives_up_after_an_election_timeout",),
    ),
    Rule(
        "thesis 3.10, step 3",
        "It sends TimeoutNow, and the target starts an election at once.",
        (
            PAPER + "test_a_transfer_needs_no_election_timeout_and_no_pre_vote",
            ELECTION + "test_timeout_now_is_believed_only_from_the_leader_of_the_term",
        ),
    ),
    Rule(
        "thesis 3.10, end",
        "If it does not happen within an election timeout, the prior leader goes on.",
        (ELECTION + "test_transfer_waits_for_the_log_and_gives_up_after_an_election_timeout",),
    ),
    Rule(
        "thesis 4.1, one at a time",
        "Only one server changes, and only when the last change is committed.",
        (MEMBERS + "test_one_configuration_at_a_time",),
    ),
    Rule(
        "thesis 4.1, own term",
        "And (Ongaro's amendment of 2015) when an entry of the own term is committed.",
        (MEMBERS + "test_no_configuration_before_an_entry_of_the_own_term_is_committed",),
    ),
    Rule(
        "thesis 4.1, in force",
        "A configuration counts as soon as it is in the log, committed or not.",
        (MEMBERS + "test_a_configuration_is_in_force_from_its_append_on_leader_and_follower",),
    ),
    Rule(
        "thesis 4.1, fallback",
        "If it is removed from the log, the one before counts again.",
        (MEMBERS + "test_a_configuration_that_is_cut_gives_way_to_the_one_before",),
    ),
    Rule(
        "thesis 4.1, not in it",
        "Servers answer candidates and leaders that are not in their configuration.",
        (PAPER + "test_who_is_not_in_the_own_configuration_is_voted_for_and_followed",),
    ),
    Rule(
        "thesis 4.2.1",
        "A new server catches up as a non-voter, and becomes voter when it has.",
        (
            MEMBERS + "test_a_learner_receives_and_counts_for_nothing",
            MEMBERS + "test_a_blank_node_becomes_learner_then_voter_with_a_partner",
        ),
    ),
    Rule(
        "thesis 4.2.2",
        "A leader that is removed leads, without counting itself, until that is committed.",
        (
            MEMBERS + "test_a_leader_that_is_removed_leads_until_that_is_committed",
            MEMBERS + "test_a_removed_leader_does_not_count_itself",
        ),
    ),
    Rule(
        "thesis 4.2.3",
        "Who hears a leader within an election timeout answers no candidate, save in a transfer.",
        (
            ELECTION + "test_a_voter_that_hears_a_leader_answers_no_candidate",
            PAPER + "test_a_candidate_that_the_leader_chose_is_answered_by_who_hears_that_leader",
        ),
    ),
    Rule(
        "thesis 4.3",
        "Joint consensus for arbitrary changes.",
        reason="Not used: changes are of one server at a time (design, section 6).",
    ),
    Rule(
        "thesis 6.2",
        "A leader that has no answers of a majority for an election timeout steps down.",
        (
            ELECTION + "test_a_leader_that_hears_no_majority_steps_down",
            ELECTION + "test_old_answers_are_no_contact",
        ),
    ),
    Rule(
        "thesis 6.4, step 1",
        "A read waits until the leader has committed an entry of its term.",
        (READS + "test_a_new_leader_answers_no_read_before_it_committed_in_its_term",),
    ),
    Rule(
        "thesis 6.4, steps 2 and 3",
        "It notes the commit index, and a round of heartbeats that begins then is answered by a majority.",
        (
            READS + "test_a_read_needs_a_round_that_a_majority_answers",
            READS + "test_an_answer_to_an_earlier_round_confirms_nothing",
        ),
    ),
    Rule(
        "thesis 6.4, steps 4 and 5",
        "It is answered when that index is applied.",
        ("runtime/test_queries.py::test_a_query_sees_what_was_acknowledged_on_every_node",),
    ),
    Rule(
        "thesis 6.4, batches",
        "One round serves any number of reads.",
        (READS + "test_reads_between_two_calls_share_a_round_and_at_most_two_are_out",),
    ),
    Rule(
        "thesis 6.4.1",
        "Reads by the leader's clock.",
        reason="Not used: no read depends on a clock (R2).",
    ),
    Rule(
        "thesis 9.6, asking",
        "A candidate first asks whether it could win, and only then enters a term.",
        (ELECTION + "test_a_follower_hears_nothing_and_asks_before_it_enters_a_term",),
    ),
    Rule(
        "thesis 9.6, answering",
        "Yes only for a log as far as the own, and if no leader was heard; nothing changes by it.",
        (
            ELECTION + "test_a_pre_vote_changes_nothing_on_either_side",
            ELECTION + "test_a_vote_goes_only_to_a_log_at_least_as_far",
            ELECTION + "test_a_voter_that_hears_a_leader_answers_no_candidate",
        ),
    ),
    Rule(
        "thesis 9.6, rejoining",
        "Who was cut off and comes back deposes nobody.",
        (ELECTION + "test_who_was_cut_off_disturbs_nobody_when_it_comes_back",),
    ),
    Rule(
        "thesis 10.2.1",
        "A leader writes its log beside sending it; what a majority has is committed.",
        (REPLICATION + "test_the_followers_may_be_faster_than_the_leaders_disk",),
    ),
)
