"""Verbs on rows: get, put, delete, scan, pause-writes, resume-writes."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from neumann.cli import output
from neumann.cli.verb import Call, verb
from neumann.errors import BadInput
from neumann.recovery.targets import parse_duration

_PAGE = 1000


def _path(table: str, key: str) -> str:
    return f"/kv/{quote(table, safe='')}/{quote(key, safe='')}"


def _conditions(if_absent: bool, if_revision: int | None) -> dict[str, str]:
    if if_absent and if_revision is not None:
        raise BadInput("--if-absent and --if-revision exclude each other", remedy="give one")
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if if_revision is None else {"If-Match": f'"{if_revision}"'}


@verb("get")
@click.argument("table")
@click.argument("key")
@click.option("--stale", is_flag=True, help="What this node has, perhaps old.")
def get(call: Call, table: str, key: str, stale: bool) -> None:
    """Print one row's value as JSON; with --format json also its revision and time. 10 if absent."""
    reply = call.node.get(_path(table, key), {"stale": "true"} if stale else None)
    row = {
        "table": table,
        "key": key,
        "value": reply.body,
        "revision": int(reply.headers["etag"].strip('"')),
        "time": reply.headers["x-neumann-time"],
    }
    call.show(row, lambda: json.dumps(reply.body, ensure_ascii=False))


@verb("put")
@click.argument("table")
@click.argument("key")
@click.argument("value", metavar="JSON", required=False)
@click.option("--if-absent", is_flag=True, help="Only if there is no such row.")
@click.option("--if-revision", type=click.IntRange(0), metavar="N", help="Only if the row has this revision.")
def put(
    call: Call, table: str, key: str, value: str | None, if_absent: bool, if_revision: int | None
) -> None:
    """Write a row and print its revision. Without JSON, or with -, the value is read from input."""
    text = sys.stdin.read() if value in (None, "-") else str(value)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{text!r:.60} is not JSON: {error}", remedy="text needs quotes: '\"Berlin\"'"
        ) from error
    reply = call.node.request(
        "PUT",
        _path(table, key),
        params={"timeout_s": f"{call.timeout_s:g}"},
        body=json.dumps(body).encode(),
        headers=_conditions(if_absent, if_revision),
    )
    call.show(reply.body, lambda: f"revision {reply.body['revision']}")


@verb("delete")
@click.argument("table")
@click.argument("key")
@click.option("--if-revision", type=click.IntRange(0), metavar="N", help="Only if the row has this revision.")
def delete(call: Call, table: str, key: str, if_revision: int | None) -> None:
    """Delete a row; one that is not there stays so. Prints the revision of the delete."""
    reply = call.node.request(
        "DELETE",
        _path(table, key),
        params={"timeout_s": f"{call.timeout_s:g}"},
        headers=_conditions(False, if_revision),
    )
    call.show(reply.body, lambda: f"revision {reply.body['revision']}")


@verb("scan")
@click.argument("table")
@click.option("--prefix", default="", help="Keys that begin with it.")
@click.option("--start", default="", metavar="KEY", help="From this key on.")
@click.option("--stop", default="", metavar="KEY", help="Before this key.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many rows; default all.")
@click.option("--reverse", is_flag=True, help="Last key first.")
@click.option("--stale", is_flag=True, help="What this node has, perhaps old.")
def scan(
    call: Call,
    table: str,
    prefix: str,
    start: str,
    stop: str,
    limit: int | None,
    reverse: bool,
    stale: bool,
) -> None:
    """Print rows, one a line: key, revision, value. With --format json one JSON object a line."""
    params = {"prefix": prefix, "start": start, "stop": stop}
    params = {name: value for name, value in params.items() if value}
    params |= {"reverse": str(reverse).lower(), "stale": str(stale).lower()}
    left = limit
    while left is None or left > 0:
        params["limit"] = str(_PAGE if left is None else min(left, _PAGE))
        page = call.node.get(f"/kv/{quote(table, safe='')}", params).body
        for row in page["rows"]:
            output.write(_row_text(call, row))
        if page["cursor"] is None:
            return
        params["cursor"] = page["cursor"]
        left = None if left is None else left - len(page["rows"])


def _row_text(call: Call, row: dict[str, Any]) -> str:
    if call.as_json:
        return json.dumps(row, ensure_ascii=False)
    return f"{row['key']}\t{row['revision']}\t{json.dumps(row['value'], ensure_ascii=False)}"


@verb("pause-writes")
@click.option(
    "--max", "longest", default="10m", show_default=True, metavar="10m", help="It ends by itself then."
)
@click.option("--reason", default="", help="Shown to whoever asks.")
def pause_writes(call: Call, longest: str, reason: str) -> None:
    """Refuse writes until resume-writes, so that files of all nodes stay as they are."""
    body = {"max_s": parse_duration(longest), "reason": reason, "timeout_s": call.timeout_s}
    reply = call.node.post("/admin/writes/pause", body).body
    call.show(reply, lambda: _paused_text(reply))


def _paused_text(reply: dict[str, Any]) -> str:
    text = f"writes are paused at index {output.count(reply['index'])} until {reply['until']}\n"
    text += f"applied by {', '.join(reply['applied_by']) or 'nobody'}"
    if reply["laggards"]:
        text += f"\nNOT yet applied by {', '.join(reply['laggards'])}: do not copy their files"
    return text


@verb("resume-writes")
def resume_writes(call: Call) -> None:
    """End the pause. Exits 9 if it had ended before: then files copied since are not of one moment."""
    reply = call.node.post("/admin/writes/resume", {"timeout_s": call.timeout_s}).body
    call.show(
        reply,
        lambda: f"writes go on; nothing was written since index {output.count(reply['unchanged_since'])}",
    )
