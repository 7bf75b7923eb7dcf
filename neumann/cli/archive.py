"""Verbs on the archive of the log: wal-list, -verify, -search; archive-flush, -check, -stop.

Those that read an archive need no server. wal-push is in push.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import click

from neumann.archive.read_back import read_back
from neumann.cli import output
from neumann.cli.place import configured_repo, find_source, must_hold_something, places, with_source
from neumann.cli.snapshots import lines
from neumann.cli.verb import Call, verb
from neumann.env import Files
from neumann.errors import NeumannError, WrongHistory
from neumann.format.times import time_text
from neumann.recovery import search as search_engine
from neumann.recovery.catalog import Catalog, restore_points
from neumann.recovery.runs import worst
from neumann.recovery.search import Query, search
from neumann.recovery.survey import Survey, survey
from neumann.recovery.targets import parse_time

# --- reading an archive --------------------------------------------------------------------------


@verb("wal-list")
@with_source
def wal_list(call: Call, repo: str | None, wal_dir: str | None, snapshot_dir: str | None) -> None:
    """What an archive covers, by headers: what can be restored, the log, restore points, gaps."""
    with places() as files:
        found, wrong = _look(call, files, repo, wal_dir, snapshot_dir)
        body = _survey_facts(found, wrong)
    call.show(body, lambda: _survey_text(found, body))


@verb("wal-verify")
@with_source
@click.option("--since", metavar="TIME", help="Only headers of files that are older as a whole.")
def wal_verify(
    call: Call, repo: str | None, wal_dir: str | None, snapshot_dir: str | None, since: str | None
) -> None:
    """Read every byte of an archived log.

    Exits 4 for a gap, 5 for damage, 6 for files of another cluster, 10 where nothing of an archive lies. With
    --repo or --snapshot-dir also where the log's end can't be restored: 4 if something between the newest
    snapshot and the log is missing, 3 if there is nothing to begin with.
    """
    since_ns = parse_time(since) if since else 0
    with places() as files:
        found, wrong = _look(call, files, repo, wal_dir, snapshot_dir, bodies=True, since_ns=since_ns)
        must_hold_something(found.catalog)
        body = {**_survey_facts(found, wrong), "checked_files": found.runs.checked}
    read = f"{found.runs.checked} of {len(found.catalog.heads)} files read to the last byte"
    call.show(body, lambda: f"{_survey_text(found, body)}\n{read}, {len(wrong)} things wrong")
    _exit(wrong)


def _look(
    call: Call,
    files: Files,
    repo: str | None,
    wal_dir: str | None,
    snapshot_dir: str | None,
    *,
    bodies: bool = False,
    since_ns: int = 0,
) -> tuple[Survey, list[NeumannError]]:
    """What there is, and what is wrong with it: where snapshots may begin a restore, also that none can."""
    found = survey(
        files, find_source(call, files, repo, wal_dir, snapshot_dir), bodies=bodies, since_ns=since_ns
    )
    is_whole = bool(snapshot_dir or configured_repo(call, repo, wal_dir))
    return found, found.runs.wrong + (found.unreached if is_whole else [])


def _survey_facts(found: Survey, wrong: Sequence[NeumannError]) -> dict[str, Any]:
    catalog = found.catalog
    points = restore_points(catalog, catalog.heads)
    return {
        "clusters": sorted(cluster_id.hex() for cluster_id in catalog.cluster_ids()),
        "windows": [
            {
                "timeline": timeline,
                "first_index": window.first_index,
                "last_index": window.last_index,
                "first_time": time_text(window.first_time_ns, 9) if window.first_time_ns else None,
                "last_time": time_text(window.last_time_ns, 9) if window.last_time_ns else None,
            }
            for timeline, windows in found.recoverable.items()
            for window in windows
        ],
        "log": [
            {
                "timeline": str(run.timeline),
                "first_index": run.first_index,
                "last_index": run.last_index,
                "first_time": time_text(run.first_time_ns),
                "last_time": time_text(run.last_time_ns),
                "files": run.files,
                "bytes": run.bytes,
            }
            for run in found.runs.found
        ],
        "restore_points": [
            {"name": name, "index": index, "time": time_text(time_ns, 9), "timeline": str(head.timeline)}
            for head, name, index, time_ns in points
        ],
        "tails": [
            {
                "path": head.path,
                "first_index": head.first_index,
                "last_index": catalog.scan(head, bodies=False).last.index,
            }
            for head in catalog.heads
            if catalog.is_begun(head)
        ],
        "wrong": [str(error) for error in wrong],
        "notes": found.notes,
        "unknown_files": catalog.unknown,
    }


def _survey_text(found: Survey, body: dict[str, Any]) -> str:
    text = [f"cluster {cluster_id}" for cluster_id in body["clusters"]]
    if body["log"]:
        runs = [[*list(run.values())[:6], output.size(run["bytes"])] for run in body["log"]]
        text.append(output.table(("log of", "from", "to", "from time", "to time", "files", "bytes"), runs))
    if body["restore_points"]:
        points = [list(point.values()) for point in body["restore_points"]]
        text.append(output.table(("restore point", "index", "time", "timeline"), points))
    windows = [window for some in found.recoverable.values() for window in some]
    text += [f"recoverable  {window}" for window in windows]
    if body["log"] and not windows:
        text.append("recoverable  nothing: there is no snapshot to begin with")
    text += [
        f"part         {tail['first_index']:,} .. {tail['last_index']:,} as received, {tail['path']}"
        for tail in body["tails"]
    ]
    text += [f"WRONG {what}" for what in body["wrong"]]
    text += [f"note  {note}" for note in body["notes"]]
    text += [f"not a file of the archive: {name}" for name in body["unknown_files"]]
    return "\n".join(text) or "the archive is empty"


@verb("wal-search")
@with_source
@click.option("--table", metavar="T", help="Entries that name a row of this table.")
@click.option("--key", metavar="K", help="Entries that name a row of this key.")
@click.option("--op", type=click.Choice(sorted(search_engine.OPERATIONS)), help="What is done to it.")
@click.option("--from", "since", metavar="TIME", help="Not before.")
@click.option("--to", "until", metavar="TIME", help="Not after.")
@click.option("--limit", type=click.IntRange(1), default=100, metavar="N", help="At most; default 100.")
def wal_search(
    call: Call,
    repo: str | None,
    wal_dir: str | None,
    snapshot_dir: str | None,
    table: str | None,
    key: str | None,
    op: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> None:
    """Which archived entry did it: those that put or delete a row, oldest first.

    wal-replay --until-index N --exclusive goes back to before entry N. Exits 4 or 5 if part of the log
    could not be read.
    """
    times = [parse_time(text) if text else 0 for text in (since, until)]
    wrong: list[NeumannError] = []
    with places() as files:
        catalog = Catalog(files, find_source(call, files, repo, wal_dir, snapshot_dir).wal_directory)
        must_hold_something(catalog)
        found = list(islice(search(catalog, Query(table, key, op, *times), wrong), limit + 1))
    entries = [
        {
            "index": entry.index,
            "time": time_text(entry.time_ns, 9),
            "timeline": str(entry.timeline),
            "op": entry.op,
            "table": entry.table,
            "key": entry.key,
            "matches": entry.matches,
            "rows": entry.rows,
            "conditional": entry.conditional,
        }
        for entry in found[:limit]
    ]
    body = {"entries": entries, "more": len(found) > limit, "wrong": [str(error) for error in wrong]}
    call.show(body, lambda: _search_text(body))
    _exit(wrong)


def _search_text(body: dict[str, Any]) -> str:
    rows = [
        (e["index"], e["time"], e["timeline"], e["op"], f"{e['table']}/{e['key']}", _remark(e))
        for e in body["entries"]
    ]
    text = [output.table(("index", "time", "timeline", "op", "row", ""), rows)] if rows else ["nothing found"]
    if body["more"]:
        text.append("there are more: --limit, or a later --from")
    return "\n".join(text + [f"WRONG {what}" for what in body["wrong"]])


def _remark(entry: dict[str, Any]) -> str:
    remarks = []
    if entry["rows"] > 1:
        remarks.append(f"{entry['matches']:,} of {entry['rows']:,} rows of a batch")
    if entry["conditional"]:
        remarks.append("conditional")
    return ", ".join(remarks)


def _exit(wrong: Sequence[NeumannError]) -> None:
    if wrong:
        click.get_current_context().exit(worst(wrong))


# --- asking the leader ---------------------------------------------------------------------------


@verb("archive-flush")
def archive_flush(call: Call) -> None:
    """Seal the log and wait until everything up to now is archived."""
    params = {"timeout_s": f"{call.timeout_s:g}"}
    reply = call.node.post("/admin/archive/flush", params=params).body
    call.show(reply, lambda: lines(reply))


@verb("archive-check")
@with_source
@click.option(
    "--begin", is_flag=True, help="In a cluster made by --as-new-cluster: it shall archive from now on."
)
def archive_check(
    call: Call, repo: str | None, wal_dir: str | None, snapshot_dir: str | None, begin: bool
) -> None:
    """Prove that archiving works: name a restore point, seal, wait until it is archived.

    With --wal-dir or --repo the file is also read back from there, to the last byte: exits 4 if it is not
    there, 5 if it is damaged. Without, the exit code of archive_command is believed. A cluster that was made
    by wal-replay --as-new-cluster archives nothing before --begin, given once: first give it its own place.
    Exits 6 if what is named here is another cluster's; then nothing has begun.
    """
    named = bool(configured_repo(call, repo, wal_dir) or wal_dir)
    found = None
    with places() as files:
        directory = find_source(call, files, repo, wal_dir, snapshot_dir).wal_directory if named else ""
        if begin and named:
            _must_be_its_own(call, files, directory)
        params = {"timeout_s": f"{call.timeout_s:g}"} | ({"begin": "true"} if begin else {})
        reply = call.node.post("/admin/archive/check", params=params).body
        if named:
            cluster_id = bytes.fromhex(reply["cluster_id"])
            found = read_back(files, directory, reply["file"], reply["name"], cluster_id)
    body = {**reply, "read_back": found._asdict() if found else None}
    call.show(body, lambda: _check_text(body))


def _must_be_its_own(call: Call, files: Files, directory: str) -> None:
    """WrongHistory where another cluster has archived: to begin there would spoil its archive."""
    own = call.node.get("/admin/cluster").body["cluster_id"]
    others = sorted(Catalog(files, directory).cluster_ids() - {bytes.fromhex(own)})
    if others:
        raise WrongHistory(
            f"{directory} is the archive of cluster {others[0].hex()}, and this is {own}: nothing was begun",
            remedy="give each cluster a directory of its own, in archive_command and here",
        )


def _check_text(body: dict[str, Any]) -> str:
    text = f"archived through {body['archived_through']:,}: {body['file']}, restore point {body['name']}\n"
    if body["read_back"] is None:
        return text + "not read back: name the archive with --wal-dir to have that done too"
    return text + f"read back: {body['read_back']['path']}, {body['read_back']['bytes']:,} bytes"


@verb("archive-stop")
@click.option("--reason", required=True, metavar="TEXT", help="Stands in the log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def archive_stop(call: Call, reason: str, yes: bool) -> None:
    """End archiving with a named break: from then on the log is not kept for the archive.

    Only where every node's archive_command is empty; until this is said, an empty one only pauses.
    """
    if sys.stdin.isatty():
        call.confirm("What is written from now on can't be recovered from an archive. Go on?", yes)
    reply = call.node.post("/admin/archive/stop", {"reason": reason, "timeout_s": call.timeout_s}).body
    through = output.count(reply["archived_through"])
    call.show(reply, lambda: f"archiving is off since index {output.count(reply['index'])}; it had {through}")
