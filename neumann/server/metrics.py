"""/metrics: the node's plain numbers under their exported names (interface.md, section 4).

The table below is the list of all metrics of this release. `Node.gauges()` gives each by its name
without the prefix: a number, a mapping from label value to number where the table has one label, from a
tuple of values where it has more, or a Histogram. What a node does not give is not exported; what it
gives and the table lacks is an error of the programmer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from neumann import __version__
from neumann.runtime.metrics import SECONDS_BOUNDS, Histogram
from neumann.server.http import HttpCounters

PREFIX = "neumann_"


class Spec(NamedTuple):
    """A metric: its kind follows from its name and value; `labels` in the order of the values."""

    text: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Spec] = {
    "build_info": Spec("always 1", ("version",)),
    "node_info": Spec("always 1", ("node_id", "cluster_id", "timeline", "storage_id")),
    "feature_level": Spec("of the newest marker"),
    "serving": Spec("1 if this node serves requests; the label says why not", ("reason",)),
    "loop_stall_seconds": Spec("how late the event loop came to a timer"),
    "http_requests_total": Spec("answered HTTP requests", ("route", "code")),
    "http_request_seconds": Spec("from request to answer", ("route",)),
    "is_leader": Spec("1 on the leader"),
    "has_leader": Spec("1 if this node knows a leader"),
    "term": Spec("Raft's term"),
    "leader_changes_total": Spec("seen by this node"),
    "last_log_index": Spec("newest entry in the log"),
    "commit_index": Spec("newest committed entry"),
    "applied_index": Spec("newest applied entry"),
    "members": Spec("of the configuration", ("role",)),
    "voters_wanted": Spec("for this number of members"),
    "peer_lag_entries": Spec("on the leader: entries that a peer lacks", ("peer",)),
    "peer_contact_age_seconds": Spec("since a peer was heard", ("peer",)),
    "clock_skew_seconds": Spec("a peer's clock minus this node's", ("peer",)),
    "log_time_ahead_seconds": Spec("log time minus this node's clock, if above it"),
    "voting_floor": Spec("index below which this node does not vote, 0 for none"),
    "proposals_total": Spec("client commands by their end", ("result",)),
    "put_seconds": Spec("from proposal to acknowledgement"),
    "get_seconds": Spec("reads, from request to answer", ("kind",)),
    "wal_bytes": Spec("log on disk, with what is reserved"),
    "wal_segments": Spec("files of the log"),
    "wal_first_index": Spec("oldest entry in the log"),
    "wal_fsync_seconds": Spec("a batch's write and fdatasync"),
    "apply_seconds": Spec("applying a batch"),
    "total_entries": Spec("rows stored, as of the newest count"),
    "store_bytes": Spec("live sorted tables, on disk"),
    "store_tables": Spec("live sorted tables"),
    "store_memtable_bytes": Spec("rows in memory"),
    "store_cache_requests_total": Spec("block cache", ("result",)),
    "compaction_seconds": Spec("merges"),
    "compaction_written_bytes_total": Spec("by merges, uncompressed"),
    "scrub_last_success_timestamp_seconds": Spec("end of the last whole scrub"),
    "snapshot_last_index": Spec("newest snapshot"),
    "snapshot_last_success_timestamp_seconds": Spec("when it was made; after a restart its log time"),
    "snapshot_in_progress": Spec("1 while one is made"),
    "snapshot_failures_total": Spec("snapshots that failed"),
    "snapshot_duration_seconds": Spec("from marker to durable manifest"),
    "snapshot_published": Spec("snapshots in raft/snapshots"),
    "snapshot_files_missing": Spec("that the audit had to link again"),
    "snapshot_pinned_bytes": Spec("that only published snapshots hold"),
    "archive_enabled": Spec("1 if the log says that archiving is on"),
    "archive_files_total": Spec("archived by this node"),
    "archive_failures_total": Spec("failed attempts", ("reason",)),
    "archive_last_success_timestamp_seconds": Spec("last archived file"),
    "archive_last_failure_timestamp_seconds": Spec("last failed attempt"),
    "archive_last_index": Spec("everything up to it is archived"),
    "archive_backlog_segments": Spec("sealed and not archived"),
    "archive_backlog_bytes": Spec("sealed and not archived"),
    "archive_lag_entries": Spec("client entries not archived"),
    "archive_lag_seconds": Spec("age of the oldest client entry not archived"),
    "archive_broken": Spec("1 if the log has a declared break"),
    "recoverable_until_timestamp_seconds": Spec("the archive reaches to this log time"),
    "writes_paused": Spec("1 while writes are paused"),
    "writes_paused_until_timestamp_seconds": Spec("end of the pause"),
    "divergence_total": Spec("times this replica was found to differ from the others, which ends it"),
    "corruption_total": Spec("damage that was found", ("kind", "outcome")),
    "timeline_conflict": Spec("1 if a peer of another timeline was heard in the last minute"),
    "rejected_peers_total": Spec("messages that were refused", ("reason",)),
    "disk_free_bytes": Spec("under the data directory"),
    "disk_full": Spec("1 while writes are refused for lack of space"),
    "aside_bytes": Spec("old state in aside/"),
}


def metrics_text(gauges: Mapping[str, Any], http: HttpCounters) -> bytes:
    """The whole page."""
    own = dict(gauges)
    own["build_info"] = {__version__: 1}
    own["http_requests_total"] = {(route, str(code)): n for (route, code), n in http.requests.items()}
    own["http_request_seconds"] = http.seconds
    registry = CollectorRegistry()
    registry.register(_Numbers(own))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, numbers: Mapping[str, Any]) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for name, value in self._numbers.items():
            assert name in METRICS, f"{name} is missing in the table of metrics"
            yield _family(name, METRICS[name], value)


def _family(name: str, spec: Spec, value: Any) -> Metric:
    labelled = value if spec.labels else {(): value}
    samples = {key if isinstance(key, tuple) else (str(key),): item for key, item in labelled.items()}
    if any(isinstance(item, Histogram) for item in samples.values()):
        histogram = HistogramMetricFamily(PREFIX + name, spec.text, labels=spec.labels)
        for labels, item in samples.items():
            histogram.add_metric(labels, _buckets(item), item.total)
        return histogram
    counts = name.endswith("_total")
    family = (CounterMetricFamily if counts else GaugeMetricFamily)(
        PREFIX + name, spec.text, labels=spec.labels
    )
    for labels, item in samples.items():
        family.add_metric(labels, float(item))
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, SECONDS_BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.buckets)), strict=True))
