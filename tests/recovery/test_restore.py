"""Recovery against the truth: random histories and targets give exactly the rows that were, or a refusal."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.archive.sources import Source
from neumann.env.disk import RealDisk
from neumann.errors import (
    BadInput,
    BeyondArchive,
    Corrupt,
    InUse,
    NeumannError,
    RefusedByState,
    WrongHistory,
)
from neumann.format import names
from neumann.format.names import Paths
from neumann.format.special import Marker
from neumann.recovery import describe, replay
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import Report, restore
from neumann.recovery.survey import survey
from neumann.recovery.targets import Target, parse_target
from neumann.store.manifests import load_newest
from tests.recovery.world import SEGMENT_BYTES, T0, Cluster, Peers, Rows, make_env, rows_in, segment_files

DISK = RealDisk()


def request(target: Target, cluster: Cluster, to: str = "", **more: object) -> Request:
    snapshots = f"{cluster.archive}-snapshots"
    return Request(
        target=target,
        data_dir=f"{cluster.archive}-none" if to else cluster.root,
        node_id="n1",
        address="h1:7878",
        wal_dir=cluster.archive,
        snapshot_dir=snapshots if DISK.exists(snapshots) else "",
        segment_bytes=SEGMENT_BYTES,
        to=to,
        **more,  # type: ignore[arg-type]
    )


def carry_out(wanted: Request, peers: Peers | None = None) -> Report:
    env = make_env(DISK, peers=peers)
    return asyncio.run(restore(env, plan_restore(env, wanted)))


def recover(target: Target, cluster: Cluster, to: str, **more: object) -> Rows:
    report = carry_out(request(target, cluster, to, **more))
    assert report.restored.rows == len(rows_in(DISK, to))
    return rows_in(DISK, to)


def own(cluster: Cluster) -> str:
    return str(cluster.manifest.history.timeline)


def by_time(time_ns: int, exclusive: bool = False) -> Target:
    return Target(parse_target(until="2024-01-01T00:00:00Z").kind, str(time_ns), time_ns, exclusive=exclusive)


@pytest.mark.parametrize("seed", range(6))
def test_random_targets_restore_exactly_what_was(tmp_path: Path, seed: int) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), seed)
    backup = f"{cluster.archive}-snapshots"
    DISK.make_dirs(backup)
    cluster.work(60, backup)
    cluster.seal()
    end = cluster.archived_end
    rng = random.Random(seed)
    for number in range(8):
        to = f"{tmp_path}/r{number}"
        if rng.random() < 0.5:
            index = rng.randint(0, end.last)
            expected = cluster.rows_at(index)
            target = parse_target(until_index=index)
        else:
            time_ns = rng.randint(T0 + 1, end.time_ns)
            exclusive = rng.random() < 0.3
            if rng.random() < 0.5:
                time_ns = rng.choice(cluster.frames).time_ns
            expected = cluster.rows_at(cluster.index_at(time_ns - exclusive))
            target = by_time(time_ns, exclusive)
        assert recover(target, cluster, to) == expected, target


@pytest.mark.parametrize("seed", range(6))
def test_random_targets_across_restores(tmp_path: Path, seed: int) -> None:
    """Restores of restores into one archive: a later target follows ancestry across forks and jumps."""
    rng = random.Random(seed)
    cluster = Cluster.fresh(DISK, str(tmp_path), seed)
    for generation in range(3):
        cluster.work(25)
        cluster.seal()
        frame = rng.choice(cluster.frames)
        index = rng.randint(frame.first, frame.last)
        to = f"{tmp_path}/g{generation}"
        rows = recover(parse_target(until_index=index), cluster, to, timeline=own(cluster))
        assert rows == cluster.rows_at(index)
        cluster = Cluster.restored(cluster, to, rows)
    cluster.work(25)
    cluster.seal()
    for number in range(8):
        frame = rng.choice(cluster.frames)
        index = rng.randint(frame.first, frame.last)
        time_ns = frame.time_ns + rng.randint(0, 2)
        by_index = number % 2 == 0
        if not by_index and time_ns > cluster.archived_end.time_ns:
            continue
        target = parse_target(until_index=index) if by_index else by_time(time_ns)
        expected = cluster.rows_at(index if by_index else cluster.index_at(time_ns))
        assert recover(target, cluster, f"{tmp_path}/x{number}", timeline=own(cluster)) == expected


def test_in_place_restore_sets_the_old_state_aside_and_is_repeated_harmlessly(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("kept", 1)
    reached = cluster.put("last", 2)
    cluster.put("mistake", 3)
    cluster.seal()
    wanted = request(by_time(reached.time_ns), cluster)
    report = carry_out(wanted)
    assert not report.already and report.adopted is not None and report.adopted.aside_id
    rows = rows_in(DISK, cluster.root)
    assert {key for _, key in rows} == {"kept", "last"}
    old = Path(cluster.root, "aside", report.adopted.aside_id)
    assert sorted(path.name for path in old.iterdir()) == ["raft", "store"]
    base = load_newest(DISK, Paths(cluster.root).store)
    assert base is not None
    assert base.configuration.voters == ("n1",) and base.point.term > cluster.term
    assert base.point.index >= reached.last + 10**9
    assert base.history.records[-1].fork_index == reached.last
    again = carry_out(wanted)
    assert again.already and again.restored == report.restored
    assert len(list(Path(cluster.root, "aside").iterdir())) == 1


def test_dry_run_needs_no_data_directory_and_changes_nothing(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 2)
    reached = cluster.put("a", 1)
    left_out = cluster.put("b", 2)
    cluster.seal()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    wanted = request(by_time(left_out.time_ns, exclusive=True), cluster, f"{tmp_path}/nowhere/at/all")
    planned = plan_restore(make_env(DISK), wanted)
    facts = planned.facts()
    assert facts["taken"] == {
        "index": reached.last,
        "time": facts["cut"]["time"],  # type: ignore[index]
        "time_ns": reached.time_ns,
        "what": "put t/a",
    }
    assert facts["not_taken"]["what"] == "put t/b"  # type: ignore[index]
    assert any("every byte checked" in line for line in describe.plan_lines(facts))
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_cut_inside_of_a_frame_is_said(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 3)
    frame = cluster.data(5)
    cluster.seal()
    planned = plan_restore(make_env(DISK), request(parse_target(until_index=frame.first + 2), cluster))
    assert planned.facts()["cut"]["inside_frame"] is True  # type: ignore[index]
    assert any("inside of one frame" in line for line in describe.plan_lines(planned.facts()))


def test_targets_outside_the_archive_print_what_is_recoverable_and_it_is_true(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 4)
    cluster.put("a", 1)
    cluster.seal()
    backup = f"{cluster.archive}-snapshots"
    cluster.snapshot(backup)
    for path in Path(cluster.archive).glob("*"):
        path.unlink()
    first = cluster.put("b", 1)
    end = cluster.seal()
    with pytest.raises(BeyondArchive) as after:
        plan_restore(make_env(DISK), request(by_time(end.time_ns + 1), cluster, f"{tmp_path}/x"))
    with pytest.raises(BeyondArchive) as before:
        plan_restore(make_env(DISK), request(by_time(T0), cluster, f"{tmp_path}/x"))
    assert after.value.exit_code == 3
    begin, _, stop = after.value.remedy.removeprefix("recoverable: ").partition(" .. ")
    assert before.value.remedy == after.value.remedy
    for text in (begin, stop.partition(" ")[0]):
        planned = plan_restore(make_env(DISK), request(parse_target(until=text), cluster, f"{tmp_path}/x"))
        assert planned.plan.cut.index <= end.last
    with pytest.raises(BeyondArchive):
        plan_restore(
            make_env(DISK), request(parse_target(until_index=end.last + 1), cluster, f"{tmp_path}/x")
        )
    latest = plan_restore(make_env(DISK), request(parse_target(until="latest"), cluster, f"{tmp_path}/x"))
    assert latest.plan.cut.index == end.last > first.last


@pytest.mark.parametrize("seed", range(4))
def test_every_window_that_is_printed_is_accepted(tmp_path: Path, seed: int) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), seed)
    backup = f"{cluster.archive}-snapshots"
    DISK.make_dirs(backup)
    cluster.work(80, backup)
    cluster.seal()
    rng = random.Random(seed)
    for path in rng.sample(segment_files(cluster.archive), 2):
        path.unlink()
    (found,) = survey(DISK, Source(cluster.archive, backup)).recoverable.values()
    assert found
    for window in found:
        for index in {window.first_index, window.last_index}:
            wanted = request(parse_target(until_index=index), cluster, f"{tmp_path}/x")
            assert plan_restore(make_env(DISK), wanted).plan.cut.index == index
        begin, _, end = str(window).partition(" (")[0].partition(" .. ")
        for text in {begin, end} - {"the beginning"}:
            plan_restore(make_env(DISK), request(parse_target(until=text), cluster, f"{tmp_path}/x"))
        with pytest.raises(NeumannError) as refused:
            wanted = request(parse_target(until_index=window.last_index + 1), cluster, f"{tmp_path}/x")
            plan_restore(make_env(DISK), wanted)
        assert refused.value.exit_code in (3, 4)


def test_a_snapshot_alone_is_a_window_of_one_moment(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("a", 1)
    manifest = cluster.snapshot(f"{cluster.archive}-snapshots")
    for path in segment_files(cluster.archive):
        path.unlink()
    with pytest.raises(BeyondArchive) as refused:
        plan_restore(make_env(DISK), request(by_time(manifest.time_ns + 1), cluster, f"{tmp_path}/x"))
    begin, _, end = refused.value.remedy.removeprefix("recoverable: ").partition(" (")[0].partition(" .. ")
    assert begin == end
    planned = plan_restore(make_env(DISK), request(parse_target(until=begin), cluster, f"{tmp_path}/x"))
    assert planned.plan.cut.index == manifest.point.index


def test_restore_points_by_name(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 5)
    cluster.put("a", 1)
    cluster.seal("before-upgrade")
    cluster.put("a", 2)
    cluster.seal("twice")
    cluster.seal("twice")
    rows = recover(parse_target(until_name="before-upgrade"), cluster, f"{tmp_path}/r")
    assert rows["t", "a"][1] == 1
    with pytest.raises(BeyondArchive, match="before-upgrade, twice"):
        plan_restore(make_env(DISK), request(parse_target(until_name="nope"), cluster))
    with pytest.raises(BadInput, match="more than one"):
        plan_restore(make_env(DISK), request(parse_target(until_name="twice"), cluster))


def test_two_leaf_timelines_are_ambiguous_only_where_they_differ(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 6)
    first = cluster.put("a", 1)
    cut = cluster.put("a", 2)
    cluster.put("a", 3)
    cluster.seal()
    for number in range(2):
        to = f"{tmp_path}/branch{number}"
        rows = recover(by_time(cut.time_ns), cluster, to) if not number else {}
        if number:
            wanted = request(by_time(cut.time_ns), cluster, to, timeline=own(cluster))
            carry_out(wanted)
            rows = rows_in(DISK, to)
        branch = Cluster.restored(cluster, to, rows)
        branch.put(f"only-{number}", number)
        branch.seal()
    with pytest.raises(WrongHistory, match="--timeline") as refused:
        plan_restore(make_env(DISK), request(parse_target(until="latest"), cluster, f"{tmp_path}/x"))
    assert refused.value.exit_code == 6
    assert recover(by_time(first.time_ns), cluster, f"{tmp_path}/shared") == cluster.rows_at(first.last)
    wanted = request(
        parse_target(until="latest"),
        cluster,
        f"{tmp_path}/chosen",
        timeline=own(branch),
    )
    carry_out(wanted)
    assert rows_in(DISK, f"{tmp_path}/chosen") == branch.rows


def test_an_index_that_no_entry_has(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 7)
    cluster.put("a", 1)
    cluster.seal()
    rows = recover(parse_target(until_index=1), cluster, f"{tmp_path}/r")
    child = Cluster.restored(cluster, f"{tmp_path}/r", rows)
    child.put("b", 1)
    child.seal()
    with pytest.raises(BadInput, match="name the same rows"):
        plan_restore(make_env(DISK), request(parse_target(until_index=1000), cluster, f"{tmp_path}/x"))
    base = child.manifest.point.index
    assert recover(parse_target(until_index=base), cluster, f"{tmp_path}/y") == rows


def test_a_living_cluster_and_a_locked_directory_are_refused(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 8)
    cluster.put("a", 1)
    cluster.seal()
    alive = {"cluster_id": cluster.manifest.history.cluster_id, "serves": True}
    wanted = request(parse_target(until="latest"), cluster, peers={"n2": "h2:7878", "n3": "h3:7878"})
    before = rows_in(DISK, cluster.root)
    with pytest.raises(InUse, match="n2 at h2:7878"):
        carry_out(wanted, Peers({"h2:7878": alive}))
    release = DISK.lock(Paths(cluster.root).lock)
    with pytest.raises(InUse):
        carry_out(wanted)
    release()
    assert rows_in(DISK, cluster.root) == before
    carry_out(
        wanted, Peers({"h2:7878": {**alive, "serves": False}, "h3:7878": {**alive, "cluster_id": b"x" * 16}})
    )


def test_as_new_cluster_shares_nothing_with_the_old(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 9)
    cluster.put("a", 1)
    cluster.seal()
    carry_out(request(parse_target(until="latest"), cluster, f"{tmp_path}/r", as_new_cluster=True))
    base = load_newest(DISK, f"{tmp_path}/r/store")
    assert base is not None
    assert base.history.cluster_id != cluster.manifest.history.cluster_id
    assert len(base.history.records) == 1 and not base.archiving.on
    assert rows_in(DISK, f"{tmp_path}/r") == cluster.rows


def test_to_refuses_a_directory_that_holds_something(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 10)
    cluster.put("a", 1)
    cluster.seal()
    Path(tmp_path, "r").mkdir()
    Path(tmp_path, "r", "mine").write_text("")
    with pytest.raises(RefusedByState):
        carry_out(request(parse_target(until="latest"), cluster, f"{tmp_path}/r"))


def test_every_refusal_is_an_error_of_the_product(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 12)
    for target in (parse_target(until="latest"), parse_target(until_index=5), parse_target(until_name="x")):
        try:
            plan_restore(make_env(DISK), request(target, cluster, f"{tmp_path}/r"))
        except NeumannError as error:
            assert str(error)


def test_start_paused_takes_no_writes_until_somebody_has_looked(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 13)
    cluster.put("a", 1)
    cluster.seal()
    wanted = request(parse_target(until="latest"), cluster, f"{tmp_path}/r", start_paused=True)
    carry_out(wanted)
    base = load_newest(DISK, Paths(f"{tmp_path}/r").store)
    assert base is not None and base.pause is not None and base.pause.owner == "wal-replay"
    child = Cluster.restored(cluster, f"{tmp_path}/r", rows_in(DISK, f"{tmp_path}/r"))
    child.resume()
    child.put("b", 2)
    child.seal()
    assert recover(parse_target(until="latest"), child, f"{tmp_path}/again") == child.rows


def test_the_tail_of_a_stopped_node_is_taken_only_where_it_is_asked_for(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 14)
    cluster.put("a", 1)
    archived = cluster.seal()
    cluster.put("b", 2)
    cluster.say(Marker(seal=True))  # sealed, and not archived
    last = cluster.put("c", 3)  # in the open segment
    cluster.log.close()
    with pytest.raises(BeyondArchive):
        plan_restore(make_env(DISK), request(parse_target(until_index=last.last), cluster, f"{tmp_path}/r"))
    for number, tail in enumerate((cluster.root, cluster.paths.wal)):
        to = f"{tmp_path}/r{number}"
        wanted = request(parse_target(until="latest"), cluster, to, include_tail=tail)
        planned = plan_restore(make_env(DISK), wanted)
        assert planned.plan.cut.index == last.last
        assert f"entries {archived.last + 1}..{last.last} are from {cluster.paths.wal}" in planned.notes[-1]
        carry_out(wanted)
        assert rows_in(DISK, to) == cluster.rows
    early = request(
        parse_target(until_index=archived.last), cluster, f"{tmp_path}/e", include_tail=cluster.root
    )
    assert not any("never have been" in note for note in plan_restore(make_env(DISK), early).notes)


def test_a_torn_tail_is_named_and_what_is_before_it_can_be_reached(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 15)
    cluster.seal()
    good = cluster.put("a", 1)
    torn = cluster.put("b", 2)
    cluster.log.close()
    open_segment = segment_files(cluster.paths.wal)[-1]
    data = bytearray(open_segment.read_bytes())
    place = data.rindex(b"t", 0, len(bytes(data).rstrip(bytes(1))))
    data[place] ^= 1
    open_segment.write_bytes(data)
    latest = request(parse_target(until="latest"), cluster, f"{tmp_path}/r", include_tail=cluster.root)
    with pytest.raises(Corrupt, match=f"index {torn.last}") as refused:
        plan_restore(make_env(DISK), latest)
    assert f"--until-index {good.last}" in refused.value.remedy
    wanted = parse_target(until_index=good.last)
    rows = recover(wanted, cluster, f"{tmp_path}/r", include_tail=cluster.root)
    assert rows == cluster.rows_at(good.last)


def test_a_delta_restore_copies_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 16)
    backup = f"{cluster.archive}-snapshots"
    cluster.put("a", 1)
    manifest = cluster.snapshot(backup)
    cluster.put("b", 2)
    cluster.seal()
    shutil.rmtree(cluster.paths.snapshots)  # so that the snapshot of the repository is chosen
    (name,) = (names.table_name(ref.digest) for ref in manifest.tables)
    store = Path(cluster.paths.store)
    for manifest_file in store.glob("*.manifest"):
        manifest_file.unlink()
    copies = {}
    for case in ("whole", "whole, not asked for", "damaged", "missing"):
        root = tmp_path / case
        shutil.copytree(cluster.root, root)
        if case == "damaged":
            data = bytearray((root / "store" / name).read_bytes())
            data[20] ^= 1
            (root / "store" / name).write_bytes(data)
        elif case == "missing":
            (root / "store" / name).unlink()
        wanted = replace(
            request(parse_target(until="latest"), cluster, delta="not" not in case), data_dir=str(root)
        )
        copies[case] = carry_out(wanted).copied_bytes
        assert rows_in(DISK, str(root)) == cluster.rows
    whole = (Path(backup, manifest.snapshot_id) / name).stat().st_size
    assert copies == {"whole": 0, "whole, not asked for": whole, "damaged": whole, "missing": whole}


def test_a_long_replay_holds_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: each flush of a replay left two files open, its own and the table's, so that one of some
    hundred flushes ended with too many open files."""
    monkeypatch.setattr(replay, "FLUSH_ROWS", 3)
    monkeypatch.setattr(replay, "FLUSHED_TABLES_MAX", 4)
    cluster = Cluster.fresh(DISK, str(tmp_path), 17)
    cluster.work(120)
    cluster.seal()
    opened: list[int] = []
    wanted = request(parse_target(until="latest"), cluster, f"{tmp_path}/r")
    env = make_env(DISK)
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(
        restore(
            env,
            plan_restore(env, wanted),
            lambda *_: opened.append(len(os.listdir("/proc/self/fd")) - before),
        )
    )
    assert rows_in(DISK, f"{tmp_path}/r") == cluster.rows
    tables = list(Path(tmp_path, "r/store").glob("*.table"))
    assert max(opened) <= len(tables) + 4 + 8, "more files than tables were open"
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
