"""Makes the consensus core of a member: settings in ticks, the restored state, a source of jitter."""

from __future__ import annotations

from neumann.config import Config
from neumann.env import Entropy, Env
from neumann.raft import Raft, RaftConfig
from neumann.runtime.opening import Opened

TICK_MS = 10


class _Jitter:
    """raft.Random over the door of randomness."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy

    def randrange(self, start: int, stop: int, /) -> int:
        return start + self._entropy.randrange(stop - start)


def make_core(env: Env, config: Config, opened: Opened) -> Raft:
    """The core, as the disk left it."""
    settings = RaftConfig(
        node_id=opened.identity.node_id,
        storage_id=opened.identity.storage_id,
        tick_ms=TICK_MS,
        heartbeat_ticks=max(1, config.raft.heartbeat_ms // TICK_MS),
        election_ticks=max(3, config.raft.election_timeout_ms // TICK_MS),
        bytes_in_flight_max=config.raft.inflight_bytes_max,
    )
    return Raft(settings, opened.restored, _Jitter(env.entropy))
