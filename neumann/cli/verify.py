"""verify-checksums: every byte of a data directory, a snapshot, a repository, or of a running node's files.

Directories are read here, also beside the server that works there; a node that is asked (--admin, where no
directory is named) reads its own and mends from its peers what it can. Nothing else is changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from neumann.archive.sources import directory
from neumann.cli import output
from neumann.cli.against import (
    Known,
    State,
    check_content,
    check_layout,
    layouts_in,
    layouts_of,
    read_known,
    state_in,
)
from neumann.cli.checksums import Damage, Report, verify_directory
from neumann.cli.place import configured_repo, find_source, local, must_hold_something, places
from neumann.cli.progress import bar
from neumann.cli.verb import Call, verb
from neumann.env.disk import RealDisk, lock_holder
from neumann.env.doors import Files
from neumann.errors import BadInput, Corrupt, FormatTooNew, NeumannError, NotFound, Unavailable
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.recovery.runs import worst
from neumann.recovery.survey import survey
from neumann.recovery.tables import Content, content_of
from neumann.snapshot.publish import list_published, open_published
from neumann.snapshot.verify import Summary, verify_snapshot

_POLL_S = 0.2
_SNAPSHOT_REMEDY = "copy that snapshot again, or restore from another one"


@verb("verify-checksums")
@click.option("--data-dir", metavar="DIR", help="A node's data directory; default the configured one.")
@click.option(
    "--snapshot", "snapshot_dir", metavar="DIR", help="One published snapshot: DIR, HOST:PATH or s3://..."
)
@click.option("--repo", metavar="R", help="A repository's log and all its snapshots.")
@click.option("--content", is_flag=True, help="Read all rows too: their number, and their content digest.")
@click.option(
    "--against", metavar="FILE", help="Compare with a kept manifest, or JSON of stats or --content."
)
def verify_checksums(
    call: Call,
    data_dir: str | None,
    snapshot_dir: str | None,
    repo: str | None,
    content: bool,
    against: str | None,
) -> None:
    """Read every byte, beside a running server or without. Exits 5 if one is not as it was written.

    With --admin and no directory the node reads its own files, at its scrub's rate, and mends what it can;
    what it can't read is 5 as well. Of a repository it exits as a restore to its end would be refused: 4 for
    a gap, 10 where it holds nothing, or not the log that was archived. --against says 5 too where the same
    moment has other rows, 9 where it is another moment, 10 where that snapshot is not here.
    """
    named = [place for place in (data_dir, snapshot_dir, repo) if place is not None]
    if len(named) > 1:
        raise BadInput("--data-dir, --snapshot and --repo exclude each other", remedy="verify one at a time")
    known = read_known(RealDisk(), os.path.abspath(against)) if against is not None else None
    if snapshot_dir is not None:
        _verify_snapshot(call, local(snapshot_dir), content, known)
    elif repo is not None:
        if known is not None:
            raise BadInput("--against compares one state", remedy="--snapshot names one of the repository's")
        _verify_repository(call, repo, content)
    elif data_dir is None and _asks_a_node(call):
        _verify_node(call, content, known)
    else:
        _verify_directory(call, call.data_dir(data_dir), content, known)


def _asks_a_node(call: Call) -> bool:
    """--admin was typed, or the environment has it and this machine has no node of its own."""
    is_typed = click.get_current_context().get_parameter_source("admin") is ParameterSource.COMMANDLINE
    return is_typed or (call.admin is not None and call.config is None)


# --- a data directory -----------------------------------------------------------------------------


def _verify_directory(call: Call, root: str, content: bool, known: Known | None) -> None:
    disk, paths = RealDisk(), Paths(root)
    with bar("reading", quiet=call.quiet, shown=output.size) as advance:
        report = verify_directory(disk, root, advance)
    state: State | None = None
    if not report.damage and (content or (known is not None and known.content)):
        try:
            _, state = state_in(disk, paths)
        except Corrupt as error:
            report.damage.append(Damage(paths.store, error.message, error.remedy))
    holder = lock_holder(paths.lock)
    body = {
        "data_dir": report.data_dir,
        "in_use_by": holder or None,
        "scope": {kind: asdict(scope) for kind, scope in report.scopes.items()},
        "not_read": report.not_read,
        "content": _state_facts(state),
        "damage": [damage._asdict() for damage in report.damage],
    }
    _finish(call, body, _directory_text(report, state, holder), bool(report.damage))
    if known is not None:
        if known.content:
            assert state is not None
            check_content(known, state, root)
        else:
            check_layout(known, layouts_in(disk, paths), root)
        call.note(f"it is what {known.where} says")


def _directory_text(report: Report, state: State | None, holder: int) -> str:
    kinds = [[kind, s.files, s.entries, output.size(s.bytes)] for kind, s in report.scopes.items()]
    lines = [report.data_dir, output.table(("read", "files", "entries", "bytes"), kinds)]
    if holder:
        lines.append(f"in use by process {holder}: read as far as it was durable")
    lines += [f"not read  {what}" for what in report.not_read]
    lines += _state_lines(state)
    for damage in report.damage:
        lines += [f"DAMAGE {damage.message}", f"       remedy: {damage.remedy}"]
    lines.append(f"{len(report.damage)} damaged" if report.damage else "no damage")
    return "\n".join(lines)


# --- a snapshot, a repository ---------------------------------------------------------------------


def _verify_snapshot(call: Call, path: str, content: bool, known: Known | None) -> None:
    with places() as files:
        path = directory(files, path, "--snapshot")
        found = verify_snapshot(files, path)
        read = _content_in(files, path) if content or (known is not None and known.content) else None
        if known is not None and not known.content:
            check_layout(known, layouts_of(open_published(files, path)), path)
    state = State(found.id, found.index, read, frozenset({found.index})) if read is not None else None
    if known is not None and state is not None and known.content:
        check_content(known, state, path)
    body = {**_snapshot_facts(found), "content": _state_facts(state), "damage": []}
    lines = [_snapshot_line(found), *_state_lines(state)]
    if known is not None:
        lines.append(f"it is what {known.where} says")
    call.show(body, lambda: "\n".join(lines))


def _verify_repository(call: Call, repo: str, content: bool) -> None:
    wrong: list[NeumannError] = []
    damage: list[Damage] = []
    snapshots: list[dict[str, Any]] = []
    lines: list[str] = []
    with places() as files:
        source = find_source(call, files, configured_repo(call, repo, None), None, None)
        log = survey(files, source, bodies=True)
        wrong += log.runs.wrong + log.unreached
        where = source.wal_directory or source.snapshot_directory
        damage += [Damage(where, e.message, e.remedy or _of_log(e)) for e in wrong]
        listed = list_published(files, source.snapshot_directory) if source.snapshot_directory else []
        if source.wal_directory and not listed:
            must_hold_something(log.catalog)
        elif not listed:
            raise NotFound(f"{source.snapshot_directory} holds no snapshot", remedy="is it mounted?")
        for published in listed:
            try:
                found = verify_snapshot(files, published.path)
                read = _content_in(files, published.path) if content else None
            except (Corrupt, FormatTooNew) as error:
                lasting: NeumannError = error
            except (NotFound, FileNotFoundError) as error:
                lasting = Corrupt(f"{published.path}: {published.damage or error}")
            else:
                state = State(found.id, found.index, read, frozenset()) if read is not None else None
                snapshots.append({**_snapshot_facts(found), "content": _state_facts(state)})
                lines += [_snapshot_line(found), *_state_lines(state)]
                continue
            wrong.append(lasting)
            damage.append(Damage(published.path, lasting.message, lasting.remedy or _SNAPSHOT_REMEDY))
    scope = {
        "files": log.runs.checked,
        "entries": sum(run.entries for run in log.runs.found),
        "bytes": sum(run.bytes for run in log.runs.found),
    }
    body = {
        "repo": repo,
        "scope": {"log": scope},
        "snapshots": snapshots,
        "not_read": log.catalog.unknown,
        "damage": [one._asdict() for one in damage],
    }
    text = [f"log       {scope['files']} files, {output.size(scope['bytes'])}, every byte", *lines]
    text += [f"not read  {source.wal_directory}/{name}: no file of an archive" for name in body["not_read"]]
    for one in damage:
        text += [f"DAMAGE {one.message}", f"       remedy: {one.remedy}"]
    text.append(f"{len(damage)} wrong" if damage else "no damage")
    call.show(body, lambda: "\n".join(text))
    if wrong:
        click.get_current_context().exit(worst(wrong))


def _of_log(error: NeumannError) -> str:
    if isinstance(error, Corrupt):
        return "copy that file again from a node that still has it; a snapshot after it does not need it"
    return "copy what is missing again; neumann-admin wal-list says what can be restored all the same"


def _content_in(files: Files, path: str) -> Content:
    return content_of(files, path, open_published(files, path))


def _snapshot_facts(found: Summary) -> dict[str, Any]:
    return {
        "id": found.id,
        "time": time_text(found.time_ns),
        "tables": found.tables,
        "bytes": found.bytes,
        "digest": found.layout_digest.hex(),
    }


def _snapshot_line(found: Summary) -> str:
    return f"snapshot {found.id}: {found.tables} tables, {output.size(found.bytes)}, no damage"


# --- a running node -------------------------------------------------------------------------------


def _verify_node(call: Call, content: bool, known: Known | None) -> None:
    """Have the node read its files, and wait for as long as it takes and it answers."""
    found = begun = call.node.post("/admin/verify", {}).body
    with bar("reading", quiet=call.quiet, shown=output.size) as advance:
        while found["running"]:
            time.sleep(_POLL_S)
            found = call.node.get("/admin/verify").body
            if advance is not None:
                advance(found["bytes"], found["expected_bytes"])
    if found["begun"] != begun["begun"]:
        raise Unavailable("the node began anew before it had read everything", remedy="ask it again")
    state = None
    if content or (known is not None and known.content):
        stats = call.node.get("/admin/stats").body
        rows = Content(stats["total_entries"], bytes.fromhex(stats["content_digest"]))
        state = State("", stats["index"], rows, frozenset({stats["index"]}))
    body = {**found, "content": _state_facts(state)}
    is_damaged = bool(found["damaged"] or found["unrepaired"])
    _finish(call, body, _node_text(call.node.url, found, state), is_damaged)
    if known is not None:
        if state is not None and known.content:
            check_content(known, state, call.node.url)
        else:
            check_layout(known, _layouts_at(call), call.node.url)
        call.note(f"it is what {known.where} says")


def _layouts_at(call: Call) -> dict[str, Callable[[], bytes]]:
    def layout(snapshot_id: str) -> bytes:
        return bytes.fromhex(call.node.get(f"/admin/snapshots/{snapshot_id}").body["digest"])

    listed = call.node.get("/admin/snapshots").body["snapshots"]
    return {line["id"]: partial(layout, line["id"]) for line in listed if line["complete"]}


def _node_text(url: str, found: dict[str, Any], state: State | None) -> str:
    kinds = [[kind, s["files"], output.size(s["bytes"])] for kind, s in found["scope"].items()]
    lines = [url, output.table(("read", "files", "bytes"), kinds), f"since     {found['begun']}"]
    lines += [f"not read  {what}" for what in found["not_read"]]
    lines += _state_lines(state)
    for one in found["damage"]:
        lines += [f"DAMAGE {one['error']}", f"       {one['outcome']}; {one['remedy']}"]
    if found["damaged"] > len(found["damage"]):
        lines.append(f"... and {found['damaged'] - len(found['damage'])} more")
    of_these = f"{found['damaged']} damaged, {found['unrepaired']} of them still"
    lines.append(of_these if found["damaged"] else "no damage")
    return "\n".join(lines)


# --- both -----------------------------------------------------------------------------------------


def _finish(call: Call, body: dict[str, Any], text: str, is_damaged: bool) -> None:
    call.show(body, lambda: text)
    if is_damaged:
        click.get_current_context().exit(Corrupt.exit_code)


def _state_facts(state: State | None) -> dict[str, Any] | None:
    """What --against reads again."""
    if state is None:
        return None
    return {"index": state.index, "rows": state.content.rows, "content_digest": state.content.digest.hex()}


def _state_lines(state: State | None) -> list[str]:
    if state is None:
        return []
    rows, digest = state.content
    return [f"content   {output.count(rows)} rows as of index {output.count(state.index)}, {digest.hex()}"]
