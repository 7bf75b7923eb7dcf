"""What users of other systems lost in backups and restores, and the tests that hold us to each thread.

A test that is named here has a thread of its row in its name or its docstring (`pgbackrest#817`);
tests/test_backup_lessons.py checks that, and that no row is without a test or a reason. Rows keep their
numbers.
"""

from __future__ import annotations

from typing import NamedTuple


class Lesson(NamedTuple):
    """`tests` are node ids below tests/; `reason` is why there can't be one here."""

    threads: str
    what: str
    tests: tuple[str, ...] = ()
    reason: str = ""


PUSH = "archive/test_lessons.py::"
RESTORE = "recovery/test_lessons.py::"
PROCEDURE = "procedures/test_lessons.py::"
NOTHING_DELETES = "Nothing here deletes from an archive or pins a part of it: `expire` and pins are absent."

LESSONS = {
    1: Lesson(
        "pgbackrest#817, #615",
        "A target before the first backup was ignored, and everything was replayed.",
        (RESTORE + "test_pgbackrest_817_615_a_target_before_the_first_backup",),
    ),
    2: Lesson(
        "pgbackrest#1526, #1934",
        "An idle database could not be told from an archive that ends too early.",
        (RESTORE + "test_pgbackrest_1526_1934_an_idle_log_proves_that_nothing_happened",),
    ),
    3: Lesson(
        "pgbackrest#1168",
        "A target at the backup's own end could not be reached.",
        (RESTORE + "test_pgbackrest_1168_a_target_that_is_the_backups_own_time",),
    ),
    4: Lesson(
        "pgbackrest#1908; postgres_operator#3443",
        "Two restores of one archive made the same timeline and file name.",
        (PUSH + "test_pgbackrest_1908_postgres_operator_3443_two_restores_of_one_archive",),
    ),
    5: Lesson(
        "pgbackrest#1753, #1399",
        "The same name with another checksum: a split brain.",
        (PUSH + "test_pgbackrest_1753_1399_the_same_name_with_another_checksum",),
    ),
    6: Lesson(
        "pgbackrest#1616",
        "A trial restore wrote its timeline into production's archive.",
        (PUSH + "test_pgbackrest_1616_a_trial_restore_leaves_no_trace_in_the_archive",),
    ),
    7: Lesson(
        "barman#507",
        "An archiver that was killed after the copy was refused for ever.",
        (
            PUSH + "test_barman_507_killed_between_the_copy_and_the_note_of_it",
            "archive/test_faults.py::"
            "test_test_and_cp_stays_behind_its_own_short_file_and_wal_push_replaces_it",
        ),
    ),
    8: Lesson(
        "barman#11",
        "A clone archived into the original's directory.",
        (PUSH + "test_barman_11_a_cloned_server_archives_into_the_originals_directory",),
    ),
    9: Lesson(
        "barman#897",
        "Duplicates from a replicated database.",
        (PUSH + "test_barman_897_duplicates_from_a_replicated_database",),
    ),
    10: Lesson(
        "cloudnative_pg#6470",
        "A restored cluster was not allowed to go on in the same place.",
        (PUSH + "test_cloudnative_pg_6470_a_restored_cluster_goes_on_in_the_same_place",),
    ),
    11: Lesson(
        "wal_g#1126",
        "An error in fetching was taken for the archive's end.",
        (
            RESTORE + "test_wal_g_1126_an_error_in_reading_is_not_the_archives_end",
            PUSH + "test_wal_g_1126_an_error_is_not_the_same_as_nothing_there",
            "archive/test_places.py::test_a_store_that_does_not_answer_has_failed_and_is_not_empty",
        ),
    ),
    12: Lesson(
        "wal_g#63; wal_e#169",
        "A truncated or empty segment ended a recovery silently.",
        (
            RESTORE + "test_wal_g_63_wal_e_169_a_short_segment_in_the_middle",
            PUSH + "test_wal_g_63_wal_e_169_a_truncated_or_empty_segment",
        ),
    ),
    13: Lesson(
        "pgbackrest#842",
        "A corrupt file in the archive was found at the restore.",
        (PUSH + "test_pgbackrest_842_what_was_written_is_not_what_is_there",),
    ),
    14: Lesson(
        "wal_g#230, #1152, #1203",
        "Retention by count deleted all logs, nothing at all, or failed with fewer than N.",
        ("snapshot/test_prune.py::test_random_policies_always_leave_the_newest_complete_one",),
    ),
    15: Lesson(
        "wal_g#use_sentinel_time",
        "Backups were ordered by name, so a new timeline's were the oldest.",
        (RESTORE + "test_wal_g_use_sentinel_time_order_is_by_ancestry_and_not_by_name",),
    ),
    16: Lesson(
        "pg_probackup#150",
        "Retention of the log forgot what pinned backups need.",
        reason=NOTHING_DELETES,
    ),
    17: Lesson(
        "foundationdb#1740",
        "Somebody aged files out with another tool, and what was left could not be restored.",
        (RESTORE + "test_foundationdb_1740_what_another_tool_aged_out_is_not_promised",),
    ),
    18: Lesson(
        "foundationdb#12038, #12673",
        "One restorable range was shown over missing logs.",
        (
            RESTORE + "test_foundationdb_12038_12673_a_hole_makes_two_windows",
            PUSH + "test_foundationdb_12038_what_the_archive_covers_is_a_set_of_intervals",
        ),
    ),
    19: Lesson(
        "foundationdb#4640",
        "The jump of versions after a restore was a storm of empty work.",
        (PUSH + "test_foundationdb_4640_the_jump_of_the_index_costs_the_archiver_nothing",),
    ),
    20: Lesson(
        "etcd#16028; kubernetes#118501",
        "A restore moved revisions backwards under its clients.",
        (RESTORE + "test_etcd_16028_kubernetes_118501_revisions_never_go_back",),
    ),
    21: Lesson(
        "etcd#9096, #8169",
        "Data of another cluster were refused with a line that nobody understood.",
        (RESTORE + "test_etcd_9096_8169_another_cluster_is_said_in_one_line_with_the_remedy",),
    ),
    22: Lesson(
        "etcd#6361",
        "Members that joined after a restore served other data.",
        (PROCEDURE + "test_etcd_6361_members_that_join_a_restored_node_have_its_data",),
    ),
    23: Lesson(
        "vault#12168, #13234",
        "A truncated snapshot was saved with success.",
        (RESTORE + "test_vault_12168_13234_a_truncated_snapshot_is_not_used",),
    ),
    24: Lesson(
        "consul#4738, #6991",
        "From a certain day on no snapshot could be restored, and every job reported success.",
        ("procedures/test_drill.py::test_an_archive_command_that_drops_files_is_found_out",),
    ),
    25: Lesson(
        "consul#6669",
        "A second cluster joined by mistake, and its metadata went into the snapshots.",
        ("archive/test_receive.py::test_consul_6669_only_committed_frames_of_the_own_log_are_read",),
    ),
    26: Lesson(
        "rqlite#1561",
        "A restore at each start lost newer rows.",
        (RESTORE + "test_rqlite_1561_rauthy_1204_a_restore_is_done_once",),
    ),
    27: Lesson(
        "rqlite#2050, #1088",
        "A backup that a follower was asked for was junk, with success.",
        (PROCEDURE + "test_rqlite_2050_1088_a_follower_is_asked_for_a_backup",),
    ),
    28: Lesson(
        "rqlite#1551",
        "A backup held everything in memory, and the program died at a medium size.",
        (RESTORE + "test_rqlite_1551_a_restore_holds_a_segment_and_not_the_archive",),
    ),
    29: Lesson(
        "rauthy#1204",
        "A variable that asks for a restore was left set: each start restored again.",
        (RESTORE + "test_rqlite_1561_rauthy_1204_a_restore_is_done_once",),
    ),
    30: Lesson(
        "litestream#781",
        "Ids began low again after a restore: nothing was archived.",
        (PUSH + "test_litestream_781_a_restored_cluster_continues_above_the_archive",),
    ),
    31: Lesson(
        "litestream#753, #752, #847, #1084",
        "The archive was not contiguous, and nobody had looked when it was written or the log was cut.",
        (
            PUSH + "test_litestream_753_847_the_archive_is_contiguous_when_it_is_written",
            "runtime/test_retention.py::test_nothing_is_dropped_while_archiving_is_being_switched_on",
        ),
    ),
    32: Lesson(
        "litestream#224, #422, #1300",
        "Two writers of one path.",
        (PUSH + "test_litestream_224_422_two_writers_of_one_place",),
    ),
    33: Lesson(
        "litestream#0_5_0",
        "A setting for encryption was accepted and ignored.",
        (PUSH + "test_litestream_0_5_0_a_setting_that_is_not_understood_is_refused",),
    ),
    34: Lesson(
        "tidb#53047",
        "The status said NORMAL while nothing had been archived for hours.",
        (
            PUSH + "test_tidb_53047_lag_grows_while_the_command_hangs",
            "runtime/test_archiving.py::test_trouble_is_told_from_what_the_archive_lacks",
        ),
    ),
    35: Lesson(
        "tidb#68857, #36246",
        "A restore to the point that was shown failed.",
        (RESTORE + "test_tidb_68857_36246_the_point_that_is_shown_can_be_restored",),
    ),
    36: Lesson(
        "tidb#53648",
        "The report did not say which point had been reached.",
        (RESTORE + "test_tidb_53648_the_report_says_what_was_reached",),
    ),
    37: Lesson(
        "tidb#58691",
        "A full store stopped the log backup, also when there was room again.",
        (PUSH + "test_tidb_58691_a_full_archive_goes_on_when_there_is_room",),
    ),
    38: Lesson(
        "pgbackrest#2668, #1032",
        "Each verification read the whole chain anew.",
        ("cli/test_archive.py::test_wal_verify_since_reads_bodies_of_newer_files_only",),
    ),
    39: Lesson(
        "pgbackrest#1490",
        "A restore of hours told nothing of its progress.",
        (RESTORE + "test_pgbackrest_1490_a_restore_tells_its_progress",),
    ),
    40: Lesson(
        "pgmoneta#911",
        "Failed restores left directories that were half written.",
        (RESTORE + "test_pgmoneta_911_a_failed_restore_leaves_nothing_half_written",),
    ),
    41: Lesson(
        "rke2#4771; etcd#16377",
        "A fixed time limit cut the transfer of a big snapshot off, each time anew.",
        ("snapshot/test_install.py::test_a_file_goes_on_where_it_broke_off_also_after_a_power_failure",),
    ),
    42: Lesson(
        "cockroachdb#34031, #47050",
        "What the next incremental backup needed had been collected.",
        (PUSH + "test_cockroachdb_34031_47050_the_log_waits_for_the_archive",),
    ),
    43: Lesson(
        "cockroachdb#173234",
        "An edit of the schedule dropped the protection.",
        ("runtime/test_archiving.py::test_an_empty_command_pauses_keeps_the_log_and_degrades",),
    ),
    44: Lesson(
        "pg_stat_archiver#every_failure",
        "Failures by signal or above 125 were not counted.",
        (PUSH + "test_pg_stat_archiver_every_failure_is_counted",),
    ),
}
