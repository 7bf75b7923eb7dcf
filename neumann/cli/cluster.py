"""Verbs on the cluster as a whole, and on a node's configuration: cluster-info, cluster-status, reload,
config-check."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import click

from neumann.cli import output, settings
from neumann.cli.members import position
from neumann.cli.verb import Call, verb
from neumann.env.disk import RealDisk
from neumann.env.files import write_durable
from neumann.env.objects import SCHEME
from neumann.env.places import Places
from neumann.errors import BadInput, NeumannError, Unavailable

_POLL_S = 0.2
_EXIT = {"SAFE": 0, "DEGRADED": 1, "DOWN": 8}


@verb("cluster-info")
@click.option("--output", "path", metavar="FILE", help="FILE or HOST:PATH; nothing on the terminal.")
def cluster_info(call: Call, path: str | None) -> None:
    """Ids, timeline history, members, snapshot, entries, rows and digest. Always JSON."""
    text = json.dumps(call.node.get("/admin/cluster").body, indent=2, ensure_ascii=False)
    if path is None:
        output.write(text)
    else:
        _write(path, text + "\n")


def _write(path: str, text: str) -> None:
    """Put it there whole, durably, in place of what there was."""
    if path.startswith(SCHEME):
        raise BadInput(f"--output {path}: an object store takes no such file", remedy="FILE or HOST:PATH")
    places = Places(RealDisk())
    try:
        if (host := places.host(path)) is not None:
            name, _, there = path.partition(":")
            write_durable(host, f"{name}:{os.path.join('.', there)}", text.encode())
        else:
            write_durable(places.disk, os.path.abspath(path), text.encode())
    except OSError as error:
        raise NeumannError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        places.close()


@verb("cluster-status")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0), default=0.0, metavar="S", help="Ask until it is so."
)
@click.option(
    "--for", "wanted", default="healthy", metavar="leader|healthy|voters=N", help="What to wait for."
)
def cluster_status(call: Call, wait_s: float, wanted: str) -> None:
    """How safe the cluster is, and its members. Exits 0 SAFE, 1 DEGRADED, 8 DOWN.

    With --wait it exits 8 where it is not so in time; and else, with --for leader or voters=N, 0, also of a
    cluster that is DEGRADED.
    """
    reached = _condition(wanted)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            status = call.node.get("/admin/status").body
            if reached(status) or time.monotonic() >= deadline:
                break
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_S)
    call.show(status, lambda: _status_text(status))
    if wait_s and not reached(status):
        raise Unavailable(f"after {wait_s:g} s the cluster is not at {wanted!r}")
    if not (wait_s and wanted != "healthy"):
        click.get_current_context().exit(_EXIT.get(status["verdict"], 1))


def _condition(wanted: str) -> Any:
    if wanted == "leader":
        return lambda status: bool(status.get("leader"))
    if wanted == "healthy":
        return lambda status: status["verdict"] == "SAFE"
    name, _, number = wanted.partition("=")
    if name == "voters" and number.isdecimal():
        return lambda status: status["verdict"] != "DOWN" and _voters(status) == int(number)
    raise BadInput(f"--for {wanted!r} is unknown", remedy="leader, healthy or voters=3")


def _voters(status: dict[str, Any]) -> int:
    """As configured; a node that knows no leader tells them too."""
    return sum(member["role"] in ("leader", "voter") for member in status.get("members", ()))


def _status_text(status: dict[str, Any]) -> str:
    archive = status.get("archive") or {}
    lines = [f"{status['verdict']:<8} {status['reason']}{_if_all_are_lost(archive)}"]
    if status.get("paused"):
        paused = status["paused"]
        lines.append(f"writes are paused until {paused['until']} by {paused['owner']}: {paused['reason']}")
    lines += [_member_line(member) for member in status.get("members", ())]
    lines += _archive_lines(archive)
    if status.get("remedy"):
        lines.append(f"remedy: {status['remedy']}")
    return "\n".join(lines)


def _if_all_are_lost(archive: dict[str, Any]) -> str:
    """What the archive brings back; a node without a leader does not know."""
    if "recoverable_until" not in archive:
        return ""
    if not archive["on"]:
        return "; if all are lost: no archive, only copies that you made"
    if archive["recoverable_until"] is None:
        return "; if all are lost: nothing is archived yet"
    age = output.duration(max(0.0, archive["recoverable_age_s"]))
    return f"; if all are lost: recoverable to {archive['recoverable_until']} ({age} ago)"


def _archive_lines(archive: dict[str, Any]) -> list[str]:
    """The archive as its leader knows it; a node without a leader knows less."""
    if not archive.get("on"):
        return []
    lines = [f"archive  through {output.count(archive['through'])}"]
    if "backlog_segments" in archive:
        lines[0] += f", {archive['backlog_segments']} files waiting, lag {archive['lag_seconds']:.0f} s"
    if archive.get("last_file"):
        lines[0] += f", last {archive['last_file']} at {archive['last_success']}"
    if archive.get("last_error"):
        lines.append(f"archive  last failure at {archive['last_failure']}: {archive['last_error']}")
    return lines


def _member_line(member: dict[str, Any]) -> str:
    disk = f"disk {output.size(member['free_bytes'])} free" if member.get("free_bytes") is not None else ""
    return f"{member['node_id']:<8} {member['role']:<8} {position(member):<28} {disk}".rstrip()


@verb("config-check")
@click.argument("path", metavar="FILE")
def config_check(call: Call, path: str) -> None:
    """Check a configuration file, with this environment, as a start would."""
    config = settings.read_config(path, {})
    call.show(
        {"correct": True, "node_id": config.node.id}, lambda: f"{path} is correct (node {config.node.id})"
    )


@verb("reload")
def reload(call: Call) -> None:
    """Have the node read its configuration again; prints what is changed now, and what needs a restart.

    What a start would refuse is refused, and changes nothing. SIGHUP does the same.
    """
    reply = call.node.post("/admin/reload", {"timeout_s": call.timeout_s}).body
    call.show(reply, lambda: _reload_text(reply))


def _reload_text(reply: dict[str, Any]) -> str:
    def line(what: str, change: dict[str, Any]) -> str:
        running, given = (json.dumps(change[name], ensure_ascii=False) for name in ("running", "given"))
        becomes = f"what {given} holds" if running == given else f"{running} -> {given}"
        return f"{what:<16} {change['key']}  {becomes}"

    lines = [line("changed", change) for change in reply["changed"]]
    lines += [line("needs a restart", change) for change in reply["needs_restart"]]
    return "\n".join(lines) or "nothing has changed"
