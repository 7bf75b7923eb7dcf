"""Which data directory, and whose: what the verbs that work without a server need to know.

From the flags, else the configuration, else what lies in the directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import click

from neumann.archive.sources import Source, source
from neumann.cli.verb import Call
from neumann.config import Config, NodeConfig
from neumann.env import Files
from neumann.env.disk import RealDisk
from neumann.env.places import Places
from neumann.errors import ConfigError, NotFound
from neumann.format.names import Paths
from neumann.recovery.catalog import Catalog
from neumann.recovery.formation import read_identity

_SOURCE_OPTIONS = (
    click.option("--repo", metavar="R", help="Holds wal/ and snapshots/; DIR, HOST:PATH or s3://BUCKET/..."),
    click.option("--wal-dir", metavar="W", help="The log's archive."),
    click.option("--snapshot-dir", metavar="S", help="Published snapshots, beside --wal-dir."),
)
_PLACE_OPTIONS = (
    click.option("--data-dir", metavar="DIR", help="Default the configured one."),
    click.option("--node-id", metavar="ID", help="Default the configured one, or that of the directory."),
    click.option("--advertise", metavar="H:P", help="Where peers dial this node; default as configured."),
)


class Place(NamedTuple):
    """A node's directory and name, its peers, and the configuration that its files are made with."""

    data_dir: str
    node_id: str
    address: str
    peers: Mapping[str, str]
    config: Config


def with_source(function: Any) -> Any:
    """--repo, --wal-dir and --snapshot-dir."""
    return _with(function, _SOURCE_OPTIONS)


def with_place(function: Any) -> Any:
    """--data-dir, --node-id and --advertise."""
    return _with(function, _PLACE_OPTIONS)


def _with(function: Any, options: tuple[Any, ...]) -> Any:
    for option in reversed(options):
        function = option(function)
    return function


def local(path: str | None) -> str:
    """Absolute, from where the command is typed; `host:path` and URLs stay as they are; "" for none."""
    if not path:
        return ""
    return path if ":" in path.split("/", 1)[0] else os.path.abspath(path)


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Files by any name, for as long as it takes."""
    found = Places(RealDisk())
    try:
        yield found
    finally:
        found.close()


def configured_repo(call: Call, repo: str | None, wal_dir: str | None) -> str:
    """--repo; where neither that nor --wal-dir is given, [backup] repo of the configuration, or ""."""
    if repo or wal_dir or call.config is None:
        return local(repo)
    return local(call.config.backup.repo)


def find_source(
    call: Call, files: Files, repo: str | None, wal_dir: str | None, snapshot_dir: str | None
) -> Source:
    """The places to read from; BadInput or NotFound for what is none."""
    repo = configured_repo(call, repo, wal_dir)
    return source(files, repo=repo, wal_dir=local(wal_dir), snapshot_dir=local(snapshot_dir))


def must_hold_something(catalog: Catalog) -> None:
    """NotFound for a place without any file of an archive: nothing wrong was found in it, but nothing at all
    was. A history file is there from the first segment's seal on."""
    if catalog.is_empty:
        raise NotFound(f"{catalog.directory or 'wal/'} holds no file of an archive", remedy="is it mounted?")


def find_place(
    call: Call, data_dir: str | None, node_id: str | None, advertise: str | None, *, needed: bool = True
) -> Place:
    """Where to work. ConfigError if that stays unknown and is `needed`."""
    config = call.config or Config(node=NodeConfig(id=""))
    own = config.node
    if needed and data_dir is None and call.config is None:
        raise ConfigError("no data directory is named", remedy="give --data-dir, or --config FILE")
    root = os.path.abspath(data_dir or own.data_dir)
    node_id = node_id or own.id or _node_id_in(root)
    if needed and not node_id:
        raise ConfigError("this node has no name", remedy="give --node-id, or --config FILE")
    peers = {name: address for name, address in own.peers.items() if name != node_id}
    return Place(root, node_id or "n1", advertise or own.advertise, peers, config)


def _node_id_in(root: str) -> str:
    try:
        return read_identity(RealDisk(), Paths(root)).node_id
    except FileNotFoundError:
        return ""


def give_to_owner(root: str) -> None:
    """What root has made in a data directory belongs to the directory's owner, or its server can't run."""
    if os.geteuid() != 0:
        return
    owner = os.stat(root)
    for directory, _, files in os.walk(root):
        for name in [".", *files]:
            os.chown(os.path.join(directory, name), owner.st_uid, owner.st_gid, follow_symlinks=False)
