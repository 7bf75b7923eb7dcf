"""The keys of the configuration, their defaults, bounds and relations. Nobody else knows them.

Each key says its unit and what a change costs.
An embedded node makes a `Config` in code and calls `check`; everybody else gets one from the reader,
which has called it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neumann.errors import BadInput, ConfigError

KIB, MIB = 1024, 1024 * 1024
NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")
_WILDCARD = frozenset({"0.0.0.0", "::"})


def setting(
    default: Any,
    text: str,
    *,
    size: bool = False,
    least: float = 1,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    absent: bool = False,
    reload: bool = False,
) -> Any:
    """One key. `size`: bytes, also as "64 MiB"; `absent`: its feature is not in this release; `reload`: a
    change takes effect while the node runs, else at a restart."""
    facts = {"text": text, "size": size, "least": least, "most": most, "choices": choices}
    facts |= {"absent": absent, "reload": reload}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=facts)
    return field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """[node]: who this node is and where it is found."""

    id: str = setting("", "the node's name in the cluster; needed, and never changed")
    data_dir: str = setting("/var/lib/neumann", "everything durable lies here; moved only while stopped")
    listen: str = setting("127.0.0.1:7878", "host:port for clients and peers")
    advertise: str = setting("", "host:port that peers dial; own entry of `peers`, else `listen`")
    admin_listen: str = setting("127.0.0.1:9090", "host:port of HTTP")
    peers: Mapping[str, str] = setting({}, 'the cluster\'s nodes as ["n1=host:7878", ...]; self may be in it')

    def __post_init__(self) -> None:
        if not self.advertise:
            object.__setattr__(self, "advertise", self.peers.get(self.id, self.listen))

    @property
    def others(self) -> dict[str, str]:
        """Node id -> address of the configured peers without this node."""
        return {node_id: address for node_id, address in self.peers.items() if node_id != self.id}


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """[raft]: consensus."""

    heartbeat_ms: int = setting(100, "between a leader's heartbeats; each costs a message a peer")
    election_timeout_ms: int = setting(500, "silence before an election, random up to twice that")
    inflight_bytes_max: int = setting(16 * MIB, "sent to one peer and not answered", size=True)
    proposal_bytes_max: int = setting(
        64 * MIB,
        "requests that wait for their answer, on a node: writes, reads, what is forwarded; above it: 429",
        size=True,
    )
    auto_promote: bool = setting(True, "a learner that has caught up becomes a voter by itself")


@dataclass(frozen=True, slots=True)
class WalConfig:
    """[wal]: the log and its archive. An archive_timeout of 0 seals on size only."""

    segment_bytes_max: int = setting(64 * MIB, "a segment's size; reserved ahead", size=True, least=4 * KIB)
    retain_entries: int = setting(100_000, "kept behind the newest snapshot for slow peers", least=0)
    archive_command: str = setting("", "shell command, %p path, %f name, %% a percent sign", reload=True)
    archive_timeout: float = setting(
        60.0, "seconds until a segment with entries is sealed, unless one waits", reload=True, least=0
    )
    archive_command_timeout_s: float = setting(300.0, "then the command is killed", reload=True)
    archive_idle_interval_s: float = setting(
        600.0, "between seals of an idle log, each a small file", reload=True
    )
    archive_backlog_bytes_max: int = setting(
        0, "sealed segments that wait for the archive, 0: no bound", reload=True, size=True, least=0
    )
    archive_backlog_action: str = setting(
        "refuse", "above it: refuse writes, or declare a break", reload=True, choices=("refuse", "break")
    )
    archive_lag_max_s: float = setting(0.0, "then writes are refused, 0: no bound", reload=True, least=0)


@dataclass(frozen=True, slots=True)
class SnapshotConfig:
    """[snapshot]: when snapshots are made, published and pruned."""

    interval_entries: int = setting(10_000, "entries between snapshots; a batch counts its rows")
    interval_bytes: int = setting(64 * MIB, "log bytes between snapshots", size=True, least=4 * KIB)
    interval_s: float = setting(3600.0, "age of a snapshot when there are newer entries")
    publish_interval_s: float = setting(60.0, "between published ones that nobody asked for", least=0)
    keep_newest: int = setting(3, "published ones kept whatever their age", reload=True)
    keep_hourly_days: int = setting(7, "days with one published snapshot an hour", reload=True, least=0)
    keep_age_min_s: float = setting(900.0, "no published one is pruned before this age", reload=True, least=0)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """[store]: tables on disk and their cache."""

    cache_bytes_max: int = setting(64 * MIB, "memory for table blocks", size=True, least=0)
    block_bytes: int = setting(
        32 * KIB, "of a table; fixed when a cluster is formed", size=True, least=KIB, most=MIB
    )
    scrub_bytes_per_s: int = setting(
        4 * MIB,
        "how fast all files are read in the background, 0: only when asked",
        reload=True,
        size=True,
        least=0,
    )
    disk_free_bytes_min: int = setting(256 * MIB, "below it writes are refused", size=True, least=0)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """[limits]: what one client may ask for. The upper ends are those of the format."""

    key_bytes_max: int = setting(KIB, "of a key", size=True, most=64 * KIB)
    value_bytes_max: int = setting(MIB, "of a packed value", size=True, most=4 * MIB)
    batch_rows_max: int = setting(10_000, "rows of one batch", most=100_000)
    connections_max: int = setting(1024, "open client connections")
    query_timeout_s: float = setting(30.0, "a query may take; then it is ended")
    query_rows_max: int = setting(100_000, "rows of a query's answer; more is an error")


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """[security]: who may connect."""

    tls_cert_file: str = setting("", "certificate", reload=True, absent=True)
    tls_key_file: str = setting("", "its key", reload=True, absent=True)
    tls_ca_file: str = setting("", "authority of clients and peers", reload=True, absent=True)
    token_file: str = setting(
        "", "file with the bearer token that every HTTP request must carry", reload=True
    )
    insecure: bool = setting(False, "true: listen on other than loopback although nothing protects it")


@dataclass(frozen=True, slots=True)
class BackupConfig:
    """[backup]: the repository and its retention."""

    repo: str = setting("", "directory, host:path or s3://, where no --repo is given", reload=True)
    keep_snapshot_days: int = setting(7, "age at which a snapshot may go", reload=True, absent=True)
    keep_full_days: int = setting(30, "age at which a full backup may go", reload=True, absent=True)
    keep_weekly_days: int = setting(365, "the same for one of each week", reload=True, absent=True)
    keep_min: int = setting(1, "full backups kept whatever their age", reload=True, absent=True)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]: messages for people, on standard error."""

    level: str = setting(
        "info", "the least severe that is written", choices=("debug", "info", "warning", "error"), reload=True
    )
    format: str = setting("text", "of a line", choices=("text", "json"), reload=True)


@dataclass(frozen=True, slots=True)
class Config:
    """All of it; each section under its name (interface.md, section 3)."""

    node: NodeConfig = field(default_factory=NodeConfig)
    raft: RaftConfig = field(default_factory=RaftConfig)
    wal: WalConfig = field(default_factory=WalConfig)
    snapshot: SnapshotConfig = field(default_factory=SnapshotConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)
    log: LogConfig = field(default_factory=LogConfig)


def check(config: Config, places: Mapping[tuple[str, str], str] | None = None) -> None:
    """Raise ConfigError for the first relation between keys that does not hold."""
    for section, key, message, remedy in _broken_relations(config):
        place = (places or {}).get((section, key), "configuration")
        raise refusal(place, section, key, message, remedy)


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port", also "[::1]:7878"; BadInput for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"{address!r} is not host:port", remedy="write it like 10.0.0.7:7878")
    return host.strip("[]"), int(port)


def _broken_relations(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """(section, key, what is wrong, remedy), worst first."""
    node, raft, security = config.node, config.raft, config.security
    if not NODE_ID.fullmatch(node.id):
        what = "is needed" if not node.id else f"{node.id!r} is no node id"
        yield "node", "id", what, 'a name such as id = "n1": 1 to 64 letters, digits, ".", "_", "-"'
    if not node.data_dir:
        yield "node", "data_dir", "is empty", "name a directory"
    for key in ("listen", "advertise", "admin_listen"):
        try:
            host, _ = split_address(getattr(node, key))
        except BadInput as error:
            yield "node", key, error.message, error.remedy
            continue
        if key == "advertise" and host in _WILDCARD:
            yield "node", key, f"{node.advertise} is no address that a peer can dial", "set node.advertise"
        is_open = key != "advertise" and not _LOOPBACK.fullmatch(host) and not security.insecure
        what = f"{getattr(node, key)} is reachable from outside and nothing protects it"
        if is_open and key == "listen":
            yield "node", key, what, "set security.insecure = true, in a private network"
        elif is_open and not security.token_file:
            remedy = "set security.token_file, or security.insecure = true in a private network"
            yield "node", key, what, remedy
    if node.listen == node.admin_listen:
        yield "node", "admin_listen", f"is the same as listen: {node.listen}", "choose another port"
    if node.peers.get(node.id, node.advertise) != node.advertise:
        what = f"names {node.id} at {node.peers[node.id]}, but advertise is {node.advertise}"
        yield "node", "peers", what, "make them the same"
    if raft.election_timeout_ms < 3 * raft.heartbeat_ms:
        what = f"{raft.election_timeout_ms} is less than three heartbeats of {raft.heartbeat_ms} ms"
        yield "raft", "election_timeout_ms", what, "an election must not begin because one heartbeat is late"
    placeholders = re.findall("%.?", config.wal.archive_command)
    for unknown in sorted(set(placeholders) - {"%p", "%f", "%%"}):
        what = f"has the unknown placeholder {unknown!r}"
        yield "wal", "archive_command", what, "%p is the file's path, %f its name, %% a percent sign"
    lag_s, timeout_s = config.wal.archive_lag_max_s, config.wal.archive_timeout
    if lag_s and not 0 < timeout_s < lag_s:
        what = f"{lag_s:g} can't be kept with an archive_timeout of {timeout_s:g}"
        yield "wal", "archive_lag_max_s", what, "set archive_timeout to less, and above 0"
    if config.wal.archive_command and not {"%p", "%f"} & set(placeholders):
        yield "wal", "archive_command", "names no file", "%p is the file's path, %f its name"


def refusal(place: str, section: str, key: str, message: str, remedy: str) -> ConfigError:
    name = f"[{section}] {key}".strip()
    return ConfigError(f"{place}: {name} {message}", remedy=remedy, detail={"place": place, "key": name})
