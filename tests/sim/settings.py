"""What the nodes of a world are told: small limits, so that snapshots, seals and installs happen in seconds.

They differ from node to node: what replicas share must not depend on what they were told alone.
"""

from __future__ import annotations

from random import Random

from neumann.config import (
    Config,
    NodeConfig,
    RaftConfig,
    SecurityConfig,
    SnapshotConfig,
    StoreConfig,
    WalConfig,
)
from neumann.config import check as check_config
from tests.sim.machine import SHARED_ROOT

ARCHIVE = f"{SHARED_ROOT}/wal"
_ARCHIVE_COMMANDS = (f"cp %p {ARCHIVE}/%f", f"neumann-admin wal-push %p {ARCHIVE}")


def make_config(node_id: str, peers: dict[str, str], random: Random, is_archived: bool) -> Config:
    """A node's settings."""
    config = Config(
        node=NodeConfig(
            id=node_id,
            data_dir="/data",
            listen=peers[node_id],
            admin_listen=f"{node_id}:9090",
            peers=peers,
        ),
        raft=RaftConfig(heartbeat_ms=50, election_timeout_ms=300),
        wal=WalConfig(
            segment_bytes_max=random.choice((8, 32, 128)) * 1024,
            retain_entries=random.choice((0, 50, 150, 1000)),
            archive_command=random.choice(_ARCHIVE_COMMANDS) if is_archived else "",
            archive_timeout=random.choice((0.5, 2.0)),
        ),
        snapshot=SnapshotConfig(
            interval_entries=random.choice((30, 120, 400)),
            publish_interval_s=random.choice((0.0, 1.0)),
            keep_newest=2,
            keep_age_min_s=random.choice((0.0, 5.0)),
        ),
        store=StoreConfig(
            cache_bytes_max=random.choice((0, 4, 64)) * 1024,
            block_bytes=random.choice((1, 4)) * 1024,
            disk_free_bytes_min=0,
        ),
        security=SecurityConfig(insecure=True),
    )
    check_config(config)
    return config
