"""Where files are archived to: each way to give bytes their name at a place, whole and durable.

A `Destination` creates a file under a name that is free, atomically: whoever looks sees all of it or
nothing, and what has a name keeps it. When a call has returned, its effect survives a loss of power there.
What failed is an OSError or Unavailable, may have happened all the same, and may be repeated.

    directory   here or on another host: temporary name, sync, read back, link, sync the directory
    store       a put that must find nothing there; then read back
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple, Protocol

from neumann.archive.sources import directory, is_store, place
from neumann.env.doors import WritableFiles
from neumann.env.files import read_file, write_new
from neumann.env.objects import ObjectFiles
from neumann.env.places import Places
from neumann.errors import Corrupt, Unavailable
from neumann.format import names


class Held(NamedTuple):
    """A file that is there. `tag` tells a store's object from what may replace it."""

    data: bytes
    tag: str = ""


class Destination(Protocol):
    """One directory of files; `place` is its name."""

    place: str

    def list(self) -> list[str]:
        """The names there, sorted."""
        ...

    def head(self, name: str, length: int) -> bytes:
        """Its first bytes."""
        ...

    def read(self, name: str) -> Held | None:
        """All of it; None if it is not there."""
        ...

    def is_durable(self, name: str) -> bool:
        """Make what is there durable; False if only a new copy can be."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """FileExistsError if the name is taken, and then it is left as it is."""
        ...

    def replace(self, name: str, data: bytes, old: Held) -> None:
        """Put in place of what was read there. FileExistsError if it is seen to be another by now."""
        ...

    def append(self, name: str, data: bytes, offset: int) -> None:
        """Write at the end of a file, which is at `offset`; 0 begins it. Durable when it returns."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def settle(self, name: str) -> None:
        """After all: leftovers of pushes of this file that were killed are gone, and names are durable."""
        ...


def destination(places: Places, name: str, token: bytes) -> Destination:
    """The destination that a place names, which must be there. `token`: random, for temporary names."""
    if is_store(name):
        path = place(name, "the archive")
        objects = places.objects(path)
        assert objects is not None
        objects.list(path)
        return StoreDestination(objects, path)
    return directory_destination(places.host(name) or places.disk, name, token)


def directory_destination(files: WritableFiles, name: str, token: bytes) -> DirectoryDestination:
    """The same where it is known to be a directory of `files`."""
    return DirectoryDestination(files, directory(files, name, "the archive"), token)


class DirectoryDestination:
    """See the module; a Destination."""

    def __init__(self, files: WritableFiles, path: str, token: bytes) -> None:
        self.place = path
        self._files = files
        self._token = token.hex()

    def list(self) -> list[str]:
        return self._files.list(self.place)

    def head(self, name: str, length: int) -> bytes:
        file = self._files.open(f"{self.place}/{name}")
        try:
            return file.pread(length, 0)
        finally:
            file.close()

    def read(self, name: str) -> Held | None:
        try:
            return Held(read_file(self._files, f"{self.place}/{name}"))
        except FileNotFoundError:
            return None

    def is_durable(self, name: str) -> bool:
        file = self._files.open(f"{self.place}/{name}")
        try:
            file.sync()
        except OSError:
            return False
        finally:
            file.close()
        return True

    def create(self, name: str, data: bytes) -> None:
        temporary = self._copy(name, data)
        try:
            self._files.link(temporary, f"{self.place}/{name}")
        except FileNotFoundError as error:
            raise self._another(name) from error
        finally:
            self._unlink(temporary)

    def replace(self, name: str, data: bytes, old: Held) -> None:
        temporary = self._copy(name, data)
        try:
            self._files.rename(temporary, f"{self.place}/{name}")
        except FileNotFoundError as error:
            raise self._another(name) from error

    def append(self, name: str, data: bytes, offset: int) -> None:
        path = f"{self.place}/{name}"
        if not offset:
            self._unlink(path)
        file = self._files.open(path, write=True, create=not offset)
        try:
            file.pwrite(data, offset)
            file.sync()
        finally:
            file.close()
        if not offset:
            self._files.sync_dir(self.place)

    def remove(self, name: str) -> None:
        self._unlink(f"{self.place}/{name}")

    def settle(self, name: str) -> None:
        self._remove_leftovers(name)
        self._files.sync_dir(self.place)

    def _remove_leftovers(self, name: str) -> None:
        """Temporary copies of this file, of pushes that were killed. One that still runs fails, and is
        tried again."""
        for other in self.list():
            if other.startswith(f"{name}.") and other.endswith(names.TEMPORARY):
                self._unlink(f"{self.place}/{other}")

    def _copy(self, name: str, data: bytes) -> str:
        """The bytes under a temporary name, synced and read back."""
        self._remove_leftovers(name)
        path = f"{self.place}/{name}.{self._token}{names.TEMPORARY}"
        try:
            write_new(self._files, path, data)
            if read_file(self._files, path) != data:
                raise _not_as_written(f"{self.place}/{name}")
        except BaseException:
            # What this can't remove either is removed by the next push of the file.
            with contextlib.suppress(OSError, Unavailable):
                self._unlink(path)
            raise
        return path

    def _another(self, name: str) -> Unavailable:
        return Unavailable(f"another wal-push of {self.place}/{name} is at work", remedy="try again")

    def _unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(path)


class StoreDestination:
    """See the module; a Destination. A put is durable when it has ended."""

    def __init__(self, objects: ObjectFiles, path: str) -> None:
        self.place = path
        self._objects = objects

    def list(self) -> list[str]:
        return self._objects.list(self.place)

    def head(self, name: str, length: int) -> bytes:
        return self._objects.open(f"{self.place}/{name}").pread(length, 0)

    def read(self, name: str) -> Held | None:
        try:
            found = self._objects.get(f"{self.place}/{name}")
        except FileNotFoundError:
            return None
        return Held(found.data, found.tag)

    def is_durable(self, name: str) -> bool:
        return True

    def create(self, name: str, data: bytes) -> None:
        self._objects.create(f"{self.place}/{name}", data)
        self._read_back(name, data)

    def replace(self, name: str, data: bytes, old: Held) -> None:
        self._objects.replace(f"{self.place}/{name}", data, old.tag)
        self._read_back(name, data)

    def append(self, name: str, data: bytes, offset: int) -> None:
        """An object can't grow: it is put again with more."""
        path = f"{self.place}/{name}"
        held = self._objects.get(path).data if offset else b""
        if len(held) != offset:
            raise Unavailable(f"{path} does not end at byte {offset}", remedy="try again")
        self._objects.put(path, held + data)

    def remove(self, name: str) -> None:
        self._objects.delete(f"{self.place}/{name}")

    def settle(self, name: str) -> None:
        """Nothing is left to do."""

    def _read_back(self, name: str, data: bytes) -> None:
        found = self.read(name)
        if found is None or found.data != data:
            raise _not_as_written(f"{self.place}/{name}")


def _not_as_written(path: str) -> Corrupt:
    return Corrupt(f"{path}: what was written there is not what is read back", remedy="check that place")
