"""wal-replay (alias backup-restore): bring a node's directory back to a moment, or print how."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from neumann.cli import output
from neumann.cli.place import configured_repo, find_place, give_to_owner, local, with_place, with_source
from neumann.cli.progress import bar
from neumann.cli.verb import Call, verb
from neumann.env import Env, real_env
from neumann.env.places import is_elsewhere
from neumann.format.restored import Restored
from neumann.format.times import time_text
from neumann.recovery import describe
from neumann.recovery.prepare import Planned, Request, plan_restore
from neumann.recovery.restore import Report, restore
from neumann.recovery.targets import parse_target

_JOBS = 4


@verb("wal-replay", "backup-restore")
@with_source
@with_place
@click.option("--until", metavar="TIME|latest", help="A time with its zone; what was written at it is taken.")
@click.option("--until-index", type=click.IntRange(0), metavar="N", help="The last entry to take.")
@click.option("--until-name", metavar="NAME", help="A restore point.")
@click.option("--exclusive", is_flag=True, help="Stop before what the target names.")
@click.option("--timeline", default="", metavar="T", help="Which branch of history, and of which cluster.")
@click.option("--to", metavar="DIR", help="Restore there, beside the live state.")
@click.option("--dry-run", is_flag=True, help="Read all that is needed and print the plan; change nothing.")
@click.option(
    "--as-new-cluster",
    is_flag=True,
    help="Fresh cluster id, no peers, no archiving before archive-check --begin.",
)
@click.option("--delta", is_flag=True, help="Copy only tables that the data directory lacks.")
@click.option("--start-paused", is_flag=True, help="Take no writes before resume-writes, for 24 h at most.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Files of the log that are fetched at once; default 4, and 1 from a directory here.",
)
@click.option(
    "--index-jump", type=click.IntRange(1), metavar="N", help="Between the old indexes and the new."
)
@click.option(
    "--include-tail", metavar="DIR", help="Go on with the log of this stopped node, committed or not."
)
@click.option("--again", is_flag=True, help="Also if this was restored here before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def wal_replay(call: Call, *, dry_run: bool, yes: bool, **given: Any) -> None:
    """Restore from an archive to a moment: --repo R or --wal-dir W, and --until, --until-index or
    --until-name.

    The server must be stopped. What was in the data directory goes to aside/. Exits 0 reached, 3 outside of
    the archive, 4 gap, 5 corrupt, 6 another cluster or timeline, 7 in use, 8 out of reach, without room or
    changed meanwhile, 9 refused, 10 where a named place is missing or has no log where one was archived.
    """
    request = _request(call, dry_run=dry_run, **given)
    facts, report = asyncio.run(_run(call, request, dry_run, yes))
    if report is None:
        text = "\n".join([*_plan_lines(facts), "the same command without --dry-run will reach this point"])
        call.show({"dry_run": True, "plan": facts}, lambda: text)
        return
    give_to_owner(request.to or request.data_dir)
    done = _report_facts(report)
    call.show({"dry_run": False, "plan": facts, "restored": done}, lambda: _report_text(report, request))


def _request(call: Call, *, dry_run: bool, **given: Any) -> Request:
    target = parse_target(given["until"], given["until_index"], given["until_name"], given["exclusive"])
    needed = not dry_run and not given["to"]
    repo = configured_repo(call, given["repo"], given["wal_dir"])
    is_distant = any(is_elsewhere(name) for name in (repo, local(given["wal_dir"])))
    place = find_place(call, given["data_dir"], given["node_id"], given["advertise"], needed=needed)
    return Request(
        target,
        place.data_dir,
        place.node_id,
        place.address,
        {} if given["as_new_cluster"] else place.peers,
        repo=repo,
        wal_dir=local(given["wal_dir"]),
        snapshot_dir=local(given["snapshot_dir"]),
        include_tail=local(given["include_tail"]),
        timeline=given["timeline"],
        to=local(given["to"]),
        block_bytes=place.config.store.block_bytes,
        segment_bytes=place.config.wal.segment_bytes_max,
        index_jump=given["index_jump"],
        as_new_cluster=given["as_new_cluster"],
        start_paused=given["start_paused"],
        delta=given["delta"],
        again=given["again"],
        jobs=given["jobs"] or (_JOBS if is_distant else 1),
    )


async def _run(
    call: Call, request: Request, dry_run: bool, yes: bool
) -> tuple[dict[str, Any], Report | None]:
    env = real_env()
    try:
        planned = plan_restore(env, request)
        is_asked = bool(planned.set_aside_bytes) and sys.stdin.isatty() and not yes
        if dry_run or is_asked:
            planned.ahead.close()
        facts = planned.facts()
        if dry_run:
            return facts, None
        for line in _plan_lines(facts):
            call.note(line)
        if is_asked:
            call.confirm("Go on?", yes)
        return facts, await _carry_out(env, planned, call)
    finally:
        await env.net.close()
        await env.jobs.close()


async def _carry_out(env: Env, planned: Planned, call: Call) -> Report:
    with bar("replaying", quiet=call.quiet) as advance:
        return await restore(env, planned, advance)


def _plan_lines(facts: dict[str, Any]) -> list[str]:
    counter = int(facts["cut"]["timeline"].partition("-")[0]) + 1
    lines = describe.plan_lines(facts)
    becomes = "a new cluster, timeline 1" if facts["as_new_cluster"] else f"timeline {counter}"
    lines.append(f"becomes    {becomes}, sole voter {facts['sole_voter']}")
    sizes = f"needs {output.size(facts['needed_bytes'])}, {output.size(facts['free_bytes'])} free"
    if facts["set_aside_bytes"]:
        lines.append(f"sets aside raft/ store/ -> aside/ ({output.size(facts['set_aside_bytes'])}; {sizes})")
    else:
        lines.append(f"sets aside nothing ({sizes})")
    return lines + [f"note       {note}" for note in facts["notes"]]


def _report_facts(report: Report) -> dict[str, Any]:
    restored = report.restored
    return {
        "already": report.already,
        "has_gone_on": report.has_gone_on,
        "index": restored.reached_index,
        "time": time_text(restored.reached_time_ns, 9),
        "rows": restored.rows,
        "content_digest": restored.digest.hex(),
        "timeline": str(restored.timeline),
        "base_index": restored.base_index,
        "entries": report.entries,
        "seconds": round(report.seconds, 3),
        "copied_bytes": report.copied_bytes,
        "aside": report.adopted.aside_id if report.adopted else "",
    }


def _report_text(report: Report, request: Request) -> str:
    restored, root = report.restored, request.to or request.data_dir
    if report.has_gone_on:
        return (
            f"already restored: {root} was brought to this point at {_made(restored)}, and has gone on "
            f"since, to index {output.count(report.end_index)}; nothing was changed. --again restores it anew"
        )
    if report.already:
        return f"already restored: {root} is at this point since {_made(restored)}; nothing was changed"
    assert report.adopted is not None
    cluster, following = "", "start this node, then the others: they join it"
    if request.as_new_cluster:
        cluster = f"cluster {report.adopted.base.history.cluster_id.hex()}, "
        following = "start this node: a cluster of its own. It archives nothing before archive-check --begin"
    lines = [
        f"restored   {output.count(restored.reached_index)}  {time_text(restored.reached_time_ns)}",
        f"holds      {output.count(restored.rows)} rows, content digest {restored.digest.hex()}",
        f"is now     {cluster}timeline {restored.timeline}, index {output.count(restored.base_index)}, "
        f"sole voter {request.node_id}",
        f"took       {report.seconds:.1f} s for {output.count(report.entries)} entries",
    ]
    if report.adopted.aside_id:
        lines.append(f"set aside  {root}/aside/{report.adopted.aside_id}")
    return "\n".join([*lines, f"next       {following}"])


def _made(restored: Restored) -> str:
    return time_text(restored.made_ns)
