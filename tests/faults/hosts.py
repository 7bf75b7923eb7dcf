"""The three machines of a run: a server each in its own namespace, and what can be done to it.

The last machine's data lie on a small tmpfs, which can be filled and freed. The others' lie on ext4 images,
which can be frozen and thawed: whoever writes there hangs in the kernel meanwhile, and can't even be killed.
Where the machine has no loop devices they lie in plain directories, and `freezable` is empty.

A server that ends without being told to is noted in `ended`: whatever is done to them here, they have to
live with it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from pathlib import Path

from tests.faults.world import Network, must
from tests.procedures.cluster import BIN, Cluster, Member, Sections

NODES = ("n1", "n2", "n3")
SMALL_DISK = "n3"
_PAGE_BYTES = 4096
_SMALL_DISK_BYTES = 256 * 1024 * 1024
_IMAGE_BYTES = 2 * 1024 * 1024 * 1024
SETTINGS: Sections = {
    "wal": {"segment_bytes_max": "4MiB", "retain_entries": 5000},
    "snapshot": {"interval_entries": 2000, "publish_interval_s": 5, "keep_age_min_s": 0},
    "store": {"disk_free_bytes_min": "16MiB"},
    "security": {"insecure": True},
}
"""So small that segments, snapshots, compactions and installs are met within seconds."""


class Hosts:
    """Servers of one cluster. Everything here is for the thread that made it: servers end with it."""

    def __init__(self, network: Network, root: Path) -> None:
        self.network = network
        self.ended: list[str] = []
        addresses = {node: network.address(node) for node in NODES}
        self.cluster = Cluster(root, NODES, SETTINGS, addresses)
        self._paused: set[str] = set()
        small = self.cluster[SMALL_DISK].data
        must("mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK_BYTES}", "small-disk", small.parent)
        small.mkdir()
        self._ballast = small.parent / "ballast"
        self._frozen: set[str] = set()
        self.freezable = [node for node in NODES if node != SMALL_DISK and self._mount_image(node)]

    def _mount_image(self, node: str) -> bool:
        """An ext4 of its own below that machine's data; False where there are no loop devices."""
        member = self.member(node)
        image = member.directory / "image"
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        must("mkfs.ext4", "-q", image)
        try:
            must("mount", "-o", "loop", image, member.data.parent)
        except OSError:
            return False
        member.data.mkdir()
        return True

    def member(self, node: str) -> Member:
        return self.cluster[node]

    def start(self, node: str) -> None:
        """Start its server, where it doesn't run."""
        self.look_for_ended()
        if not self.member(node).is_running():
            launcher = (*self.network.launcher(node), str(BIN / "neumann"))
            self.member(node).start("--bootstrap", launcher=launcher)

    async def kill(self, node: str) -> bool:
        """SIGKILL, and wait for its end; False where it doesn't run."""
        self.look_for_ended()
        process, self.member(node).process = self.member(node).process, None
        self._paused.discard(node)
        if process is None:
            return False
        process.send(signal.SIGKILL)
        await asyncio.to_thread(process.kill)  # until its disk is thawed
        return True

    def pause(self, node: str) -> bool:
        """SIGSTOP, with all its threads; False where it doesn't run or is stopped already."""
        if not self.member(node).is_running() or node in self._paused:
            return False
        self._signal(node, signal.SIGSTOP)
        self._paused.add(node)
        return True

    def resume(self, node: str) -> None:
        """SIGCONT."""
        if node in self._paused:
            self._paused.remove(node)
            self._signal(node, signal.SIGCONT)

    async def freeze(self, node: str) -> None:
        """Its disk takes nothing any more, and answers nothing."""
        self._frozen.add(node)
        await asyncio.to_thread(must, "fsfreeze", "--freeze", self.member(node).data.parent)

    def is_frozen(self, node: str) -> bool:
        """Whether its disk is."""
        return node in self._frozen

    def thaw_all(self) -> None:
        """Every disk goes on."""
        while self._frozen:
            must("fsfreeze", "--unfreeze", self.member(self._frozen.pop()).data.parent)

    def _signal(self, node: str, number: signal.Signals) -> None:
        process = self.member(node).process
        assert process is not None
        process.send(number)

    def fill_disk(self, leave_bytes: int) -> None:
        """Fill the small disk up, to within that many bytes."""
        with self._ballast.open("wb") as file:
            while (wanted := self._free_bytes() - leave_bytes) > 0:
                try:
                    os.posix_fallocate(file.fileno(), 0, wanted)
                except OSError as error:  # its server was quicker
                    if error.errno != errno.ENOSPC:
                        raise
                    leave_bytes += _PAGE_BYTES
                else:
                    break

    def _free_bytes(self) -> int:
        found = os.statvfs(self._ballast.parent)
        return found.f_bavail * found.f_frsize

    def free_disk(self) -> None:
        """The room is there again."""
        self._ballast.unlink(missing_ok=True)

    def wipe(self, node: str) -> None:
        """Its disk comes back empty. Only while its server is down."""
        assert not self.member(node).is_running()
        for path in self.member(node).data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def mend_all(self) -> None:
        """Everything is as at the beginning, and every server runs."""
        self.network.mend_all()
        self.free_disk()
        self.thaw_all()
        for node in NODES:
            self.resume(node)
            self.start(node)

    def close(self) -> None:
        """Stop every server, and let go of the disks."""
        self.network.mend_all()
        self.thaw_all()
        for node in NODES:
            self.resume(node)
        self.look_for_ended()
        self.cluster.stop()
        for node in (SMALL_DISK, *self.freezable):
            must("umount", self.member(node).data.parent)

    def look_for_ended(self) -> None:
        """Note servers that ended by themselves."""
        for member in self.cluster.members:
            process = member.process
            if process is not None and (code := process.exit_code()) is not None:
                member.process = None
                self._paused.discard(member.id)
                self.ended.append(f"{member.id} ended with {code}: {process.log_tail(3)}")

    def votes(self, node: str) -> bool:
        """Whether it says that the configuration names it as a voter, with the very disk that it has."""
        member = self.member(node)
        if not member.is_running() or node in self._paused:
            return False
        try:
            answer = member.request("GET", "/admin/cluster", timeout_s=2.0)
        except OSError:
            return False
        if answer.status != 200:
            return False
        own = [one for one in answer.body["members"] if one["node_id"] == node and one["role"] == "voter"]
        return bool(own) and own[0]["storage_id"] == answer.body["storage_id"]

    def all_vote(self) -> bool:
        """Whether all of them do."""
        return all(self.votes(node) for node in NODES)

    def leader(self) -> str:
        """Who leads, as far as a quick look tells; "" otherwise."""
        for member in self.cluster.running():
            if member.id not in self._paused:
                leader = member.status(timeout_s=0.5).get("leader")
                if leader in NODES:
                    return str(leader)
        return ""
