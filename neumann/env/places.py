"""Files by any name: `/path` is this machine's, `host:path` another host's, `s3://bucket/key` a store's.

So whoever reads an archive or a snapshot does it by path, wherever it lies. `close` ends the connections.
"""

from __future__ import annotations

import re

from neumann.env.disk import RealDisk
from neumann.env.distant import ReadAhead
from neumann.env.doors import Files, FileStat, ReadableFile
from neumann.env.objects import SCHEME, ObjectFiles
from neumann.env.ssh import SshFiles

_HOST_PATH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.@-]*):.*", re.DOTALL)


def host_of(path: str) -> str:
    """The host of `host:path`, else ""."""
    found = None if path.startswith(SCHEME) else _HOST_PATH.fullmatch(path)
    return found[1] if found else ""


def is_elsewhere(path: str) -> bool:
    """Whether it names another host's file or a store's, and not this machine's."""
    return path.startswith(SCHEME) or bool(host_of(path))


class Places:
    """See the module, and doors.Files."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk
        self._hosts: dict[str, SshFiles] = {}
        self._objects: ObjectFiles | None = None

    def open(self, path: str) -> ReadableFile:
        files = self._of(path)
        return files.open(path) if files is self.disk else ReadAhead(files.open(path))

    def exists(self, path: str) -> bool:
        return self._of(path).exists(path)

    def stat(self, path: str) -> FileStat:
        return self._of(path).stat(path)

    def list(self, path: str) -> list[str]:
        return self._of(path).list(path)

    def read_link(self, path: str) -> str:
        return self._of(path).read_link(path)

    def host(self, path: str) -> SshFiles | None:
        """The files of the host that `path` names, if it names one."""
        host = host_of(path)
        return self._hosts.setdefault(host, SshFiles(host)) if host else None

    def objects(self, path: str) -> ObjectFiles | None:
        """The object store, if `path` names one."""
        if not path.startswith(SCHEME):
            return None
        if self._objects is None:
            self._objects = ObjectFiles()
        return self._objects

    def another(self) -> Places:
        """The same places for another thread, by connections of its own to hosts. What was listed is known
        there too; a store's client is for all threads."""
        made = Places(self.disk)
        made._hosts = {host: files.another() for host, files in self._hosts.items()}
        made._objects = self._objects
        return made

    def close(self) -> None:
        """End the connections; they come back when they are needed."""
        for host in self._hosts.values():
            host.close()

    def _of(self, path: str) -> Files:
        return self.objects(path) or self.host(path) or self.disk
