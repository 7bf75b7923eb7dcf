"""A published snapshot as every face shows it: plain JSON-able mappings."""

from __future__ import annotations

from neumann.format.manifest import layout_digest
from neumann.format.times import time_text
from neumann.snapshot.publish import Published


def summary(published: Published) -> dict[str, object]:
    """One line of a list."""
    line: dict[str, object] = {
        "id": published.id,
        "index": published.index,
        "term": published.term,
        "time": time_text(published.time_ns) if published.time_ns else None,
        "bytes": published.bytes,
        "complete": published.complete,
        "asked": published.asked,
    }
    return line | {"damage": published.damage} if published.damage else line


def detail(published: Published) -> dict[str, object]:
    """The same with what its manifest says."""
    manifest = published.manifest
    if manifest is None:
        return summary(published)
    tables = [
        {"digest": t.name, "rows": t.rows, "tombstones": t.tombstones, "raw_bytes": t.raw_bytes}
        for t in manifest.tables
    ]
    members = [
        {"node_id": m.node_id, "address": m.address, "role": m.role} for m in manifest.configuration.members
    ]
    return summary(published) | {
        "path": published.path,
        "digest": layout_digest(manifest).hex(),
        "cluster_id": manifest.history.cluster_id.hex(),
        "timeline": str(manifest.history.timeline),
        "members": members,
        "archived_through": manifest.archiving.through if manifest.archiving.on else None,
        "feature_level": manifest.feature_level,
        "tables": tables,
    }
