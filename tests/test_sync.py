"""neumann.sync: the store without asyncio, on a real directory and against a real server."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import neumann
import neumann.sync
from neumann.errors import BadInput, ConditionFailed, InUse, Unavailable
from neumann.sync import Check, Delete, Put, Store
from tests.procedures.cluster import Cluster


@pytest.fixture(scope="module", params=["open", "connect"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Both faces; what holds for one holds for the other."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "open":
        with neumann.sync.open(str(root / "data")) as opened:
            yield opened
        return
    with Cluster(root, ids=("n1",)) as cluster:
        cluster.start("--bootstrap")
        with neumann.sync.connect(cluster.contact) as connected:
            yield connected


def test_it_has_every_method_of_the_store_with_the_same_parameters() -> None:
    for name, method in inspect.getmembers(neumann.Store, inspect.isfunction):
        if not name.startswith("_"):
            mirrored = inspect.signature(getattr(Store, name)).parameters.values()
            assert [str(p) for p in mirrored] == [
                str(p) for p in inspect.signature(method).parameters.values()
            ]


def test_rows(store: Store) -> None:
    revision = store.put("rows", "berlin", {"population": 3_426_354}, if_absent=True)
    row = store.get("rows", "berlin")
    assert row is not None
    assert (row.key, row.value, row.revision) == ("berlin", {"population": 3_426_354}, revision)
    with pytest.raises(ConditionFailed):
        store.put("rows", "berlin", 1, if_absent=True)
    assert store.delete("rows", "berlin", if_revision=revision) > revision
    assert store.get("rows", "berlin", stale=True) is None


def test_a_batch_is_all_or_nothing(store: Store) -> None:
    store.batch([Put("batch", "a", 1), Put("batch", "b", 2), Check("batch", "c", if_absent=True)])
    with pytest.raises(ConditionFailed):
        store.batch([Delete("batch", "a"), Check("batch", "c", if_revision=1)])
    assert [row.key for row in store.scan("batch")] == ["a", "b"]


def test_a_scan_is_an_iterator_over_many_pages(store: Store) -> None:
    for first in range(0, 2500, 500):
        store.batch([Put("scan", f"{n:04}", n) for n in range(first, first + 500)])
    assert [row.value for row in store.scan("scan")] == list(range(2500))
    assert [row.value for row in store.scan("scan", reverse=True, limit=2)] == [2499, 2498]
    assert [row.value for row in store.scan("scan", prefix="00", start="0098")] == [98, 99]
    begun = store.scan("scan")
    assert [row.value for row in islice(begun, 3)] == [0, 1, 2]
    del begun
    assert store.get("scan", "0000") is not None


def test_a_query(store: Store) -> None:
    store.put("queried", "a", {"n": 41})
    assert store.query("SELECT n + ? FROM queried", (1,)).rows == [(42,)]


def test_a_snapshot_and_a_restore_point(store: Store) -> None:
    assert store.snapshot()["index"] > 0
    assert store.restore_point("before")["index"] > 0
    with pytest.raises(BadInput):
        store.restore_point("")


def test_threads_share_a_store(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(20):
            store.put("threads", f"{name}{number}", number)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(1 for _ in store.scan("threads")) == 80


def test_what_was_written_is_there_after_the_end(tmp_path: Path) -> None:
    with neumann.sync.open(str(tmp_path / "data")) as db:
        db.put("t", "k", "v")
        with pytest.raises(InUse), neumann.sync.open(str(tmp_path / "data")):
            pass
    with pytest.raises(Unavailable, match="not open"):
        db.get("t", "k")
    db.close()
    with neumann.sync.open(str(tmp_path / "data")) as db:
        assert (row := db.get("t", "k")) is not None and row.value == "v"


def test_a_failed_open_leaves_no_thread_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    before = threading.active_count()
    with pytest.raises((neumann.NeumannError, OSError)), neumann.sync.open(str(tmp_path / "file")):
        pass
    with pytest.raises(Unavailable), neumann.sync.connect("127.0.0.1:1", timeout_s=0.2):
        pass
    assert threading.active_count() == before
