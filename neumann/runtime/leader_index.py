"""What a node that does not lead asks the leader for: an index at which its reads are linearizable.

One call for all reads that wait (reader.py). The leader confirms that it leads with a round begun after the
question came (thesis 6.4), and answers its commit index of that moment. The question names cluster and
timeline: whoever else listens at the leader's address must not answer it (R11).
"""

from __future__ import annotations

from typing import Any

from neumann.config import RaftConfig
from neumann.env import Net
from neumann.errors import TimelineChanged, Unavailable, WrongHistory
from neumann.format.state import Identity

METHOD = "leader.read_index"
_TIMEOUTS = 2
"""Election timeouts that an answer is awaited: by then another may lead."""


async def ask(net: Net, address: str, own: Identity, config: RaftConfig) -> int:
    """The answer of the leader at `address`, "" if there is none. Unavailable without one, or if it leads no
    more; OutcomeUnknown if no answer comes."""
    if not address:
        raise Unavailable("no leader", remedy="is a majority of the voters up and connected?")
    timeout_s = _TIMEOUTS * config.election_timeout_ms / 1000
    index: Any = await net.call(address, METHOD, [own.cluster_id, str(own.timeline)], timeout_s)
    if type(index) is not int:
        raise Unavailable(f"{address} answered a question for a read index with {index!r:.80}")
    return index


def check_asker(own: Identity, cluster_id: bytes, timeline: str) -> None:
    """Refuse a node of another history."""
    if cluster_id != own.cluster_id:
        raise WrongHistory(f"this is cluster {own.cluster_id.hex()}, and the asking node is of another")
    if timeline != str(own.timeline):
        raise TimelineChanged(f"the cluster is on timeline {own.timeline}, and the asking node on {timeline}")
