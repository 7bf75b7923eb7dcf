"""What is lost when all nodes are destroyed at a random moment: archive_timeout 60, 5, 1; wal-receive."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.harness.measured import Measured, Round, progress, tell
from bench.harness.stage import OURS, Stage
from tests.procedures.cluster import BIN, Cluster, must

RECEIVE = 0
"""As an archive_timeout: no archive_command, wal-receive."""
_TIMEOUTS_S = (60, 5, 1, RECEIVE)
_TIMEOUTS_S_QUICK = (5, 1, RECEIVE)
_TRIES, _TRIES_QUICK = 20, 3
_AT_ONCE = 5
"""Clusters that live beside each other. Each is one node: all nodes, so that its end is the end of all."""
_WRITE_PAUSE_S = 0.02
_RECEIVE_BOUND_S = 1.0


def measure(stage: Stage) -> Measured:
    found: dict[str, float] = {}
    for timeout_s in _TIMEOUTS_S_QUICK if stage.quick else _TIMEOUTS_S:
        name = f"archive_timeout_{timeout_s}" if timeout_s != RECEIVE else "wal_receive"
        tries = _TRIES_QUICK if stage.quick else _TRIES
        progress(f"rpo: {name}, {tries} clusters are destroyed")
        roots = [stage.root / f"rpo-{name}-{number}" for number in range(tries)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            lost = list(pool.map(lambda root, given=timeout_s: _lose(root, given), roots))
        found[f"{name}_lost_median_s"] = sorted(lost)[len(lost) // 2]
        found[f"{name}_lost_max_s"] = max(lost)
    rounds: list[Round] = [{OURS: found}]
    tell("rpo", 1, 1, rounds[0])
    return Measured(
        "rpo",
        f"wal-receive: less than {_RECEIVE_BOUND_S:g} s lost, the worst of all tries",
        tuple(rounds),
        lambda one: _RECEIVE_BOUND_S / max(one[OURS]["wal_receive_lost_max_s"], 0.001),
    )


def _lose(root: Path, timeout_s: int) -> float:
    """One life of a cluster: seconds between the newest acknowledged write and the newest that a restore
    from the archive has."""
    archive = root / "archive"
    archive.mkdir(parents=True)
    wal: dict[str, object] = {"archive_timeout": timeout_s or 3600}
    if timeout_s:
        wal["archive_command"] = f"cp %p {archive}/%f.tmp && mv {archive}/%f.tmp {archive}/%f"
    receiver = None
    with Cluster(root, ids=("n1",), sections={"wal": wal}) as cluster:
        node = cluster["n1"]
        cluster.start("--bootstrap")
        if not timeout_s:
            words = [str(BIN / "neumann-admin"), "wal-receive", str(archive), "--status-interval", "0"]
            words += ["--admin", node.admin_url]
            receiver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        acknowledged: list[tuple[int, float]] = []
        ended = threading.Event()

        def write() -> None:
            while not ended.is_set():
                try:
                    answer = node.request("PUT", f"/kv/t/{len(acknowledged) % 100}", "x" * 100, 5.0)
                except OSError:
                    return
                if answer.status == 200:
                    acknowledged.append((int(answer.headers["ETag"].strip('"')), time.monotonic()))
                ended.wait(_WRITE_PAUSE_S)

        writing = threading.Thread(target=write)
        writing.start()
        begun = f"*{'.part' if receiver else '.history'}"
        while not any(archive.glob(begun)):
            time.sleep(_WRITE_PAUSE_S)
        least_s = timeout_s + 3
        time.sleep(random.uniform(least_s, least_s + max(timeout_s, 2)))
        node.kill()
        shutil.rmtree(node.data)
        ended.set()
        writing.join()
    if receiver is not None:
        receiver.terminate()
        receiver.wait()
    listed = json.loads(must([BIN / "neumann-admin", "wal-list", "--wal-dir", archive, "--format", "json"]))
    last_index = max((window["last_index"] for window in listed["windows"]), default=0)
    kept = [moment for index, moment in acknowledged if index <= last_index]
    began = acknowledged[0][1]
    return acknowledged[-1][1] - (kept[-1] if kept else began)
