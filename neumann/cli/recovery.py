"""Verbs that begin anew with a directory: init-cluster, rejoin.

They work on directories; the server of a directory that they change must be stopped, save for rejoin's.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import click

from neumann.cli import output
from neumann.cli.place import Place, find_place, give_to_owner, with_place
from neumann.cli.verb import Call, verb
from neumann.env import real_env
from neumann.env.clock import RealClock
from neumann.env.disk import RealDisk
from neumann.errors import BadInput, InUse
from neumann.format.names import Paths
from neumann.recovery import init_cluster as engine
from neumann.recovery import swap
from neumann.runtime import leaving, startup
from neumann.runtime.formation import Formation
from neumann.runtime.rejoin import refusal, whom_to_ask


@verb("init-cluster")
@with_place
@click.option("--bootstrap", is_flag=True, help="Needed: a person says that a cluster begins here.")
@click.option(
    "--new-timeline", is_flag=True, help="Also on a member's state, whose majority is lost for good."
)
@click.option(
    "--snapshot", "snapshot_id", default="", metavar="ID", help="Adopt this one and not the newest."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def init_cluster(
    call: Call,
    data_dir: str | None,
    node_id: str | None,
    advertise: str | None,
    bootstrap: bool,
    new_timeline: bool,
    snapshot_id: str,
    yes: bool,
) -> None:
    """Begin a cluster with this node: adopt the data that lie here, or create an empty one."""
    if not bootstrap:
        raise BadInput("init-cluster begins a cluster with this node alone", remedy="say so with --bootstrap")
    place = find_place(call, data_dir, node_id, advertise)
    if new_timeline and sys.stdin.isatty():
        call.confirm("Writes that only the other members have will be lost. Go on?", yes)
    request = engine.InitRequest(
        place.data_dir,
        place.node_id,
        place.address,
        place.peers,
        place.config.store.block_bytes,
        place.config.wal.segment_bytes_max,
        snapshot_id,
        new_timeline,
    )
    report = asyncio.run(_init(request))
    give_to_owner(place.data_dir)
    body = {
        "did": report.begun.value,
        "text": report.text,
        "cluster_id": report.base.history.cluster_id.hex(),
        "timeline": str(report.base.history.timeline),
        "index": report.base.point.index,
        "rows": report.adopted.content.rows if report.adopted else None,
        "content_digest": report.adopted.content.digest.hex() if report.adopted else None,
        "aside": report.adopted.aside_id if report.adopted else "",
    }
    call.show(body, lambda: "\n".join([report.text, *_next_steps(place)]))


async def _init(request: engine.InitRequest) -> engine.InitReport:
    env = real_env()
    try:
        return await engine.init_cluster(env, request)
    finally:
        await env.net.close()
        await env.jobs.close()


def _next_steps(place: Place) -> list[str]:
    lines = [f"next  start this node ({place.node_id})"]
    if place.peers:
        lines.append(f"next  start {', '.join(sorted(place.peers))}: they set aside what they have, and join")
    return [*lines, "next  neumann-admin cluster-status"]


@verb("rejoin")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rejoin(call: Call, data_dir: str | None, yes: bool) -> None:
    """Set this node's state aside, so that it joins its cluster as new: at once, or at the next start.

    Refused where the cluster may need that state.
    """
    place = find_place(call, call.data_dir(data_dir), None, None, needed=False)
    paths = Paths(place.data_dir)
    size = sum(swap.tree_bytes(RealDisk(), directory) for directory in (paths.raft, paths.store))
    call.confirm(f"Set raft/ and store/ of {place.data_dir} ({output.size(size)}) aside?", yes)
    if _is_running(paths):
        asked = {"data_dir": place.data_dir, "timeout_s": call.timeout_s}
        body = call.node.post("/admin/rejoin", asked).body
        then = "the node joins as new"
    else:
        aside_id = swap.rejoin(
            RealDisk(), place.data_dir, RealClock().wall_ns(), lambda: asyncio.run(_may_rejoin(place))
        )
        give_to_owner(place.data_dir)
        body = {"aside": aside_id, "path": f"{paths.aside}/{aside_id}"}
        then = "start the node: it joins as new"
    call.show(body | {"bytes": size}, lambda: f"set aside as {body['path']} ({output.size(size)}); {then}")


def _is_running(paths: Paths) -> bool:
    try:
        RealDisk().lock(paths.lock)()
    except InUse:
        return True
    return False


async def _may_rejoin(place: Place) -> None:
    """RefusedByState where this node's state may be the only one, or part of the only majority."""
    env, paths = real_env(), Paths(place.data_dir)
    config = replace(place.config, node=replace(place.config.node, id=place.node_id))
    formation = Formation(env, config, paths, 0)
    try:
        found = startup.look(env.disk, paths)
        if not found.vote:
            return
        answers = await formation.ask_who_is_up()
        refused = refusal(found, place.node_id, answers, is_stopped=True)
        if refused is not None:
            raise refused
        asked = whom_to_ask(found, place.node_id, answers)
        if asked is not None:
            going = leaving.of_disk(env.disk, paths, place.node_id)
            await leaving.ask(env.net, asked.leader, asked.leader_address, going)
    finally:
        formation.close()
        await env.net.close()
        await env.jobs.close()
