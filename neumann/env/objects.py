"""Files of an object store, `s3://bucket/key`, by obstore (extra `s3`).

A directory is what keys with a common begin make of it: it is there when something lies in it. An object
is put whole, or not at all, and is durable when the put has ended. Credentials, region and endpoint are
taken from the environment, by the AWS names (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_REGION, AWS_ENDPOINT_URL), or from the machine's role.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from neumann.env.distant import DistantFile
from neumann.env.doors import FileStat
from neumann.env.files import no_file
from neumann.errors import NeumannError, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEME = "s3://"
_TRIES = 4
_GIVE_UP_S = 60
_TIMEOUT, _DIAL_TIMEOUT = "600s", "10s"
"""The first is for a whole request: a segment of 64 MiB takes that long at 0.1 MB a second."""


class Stored(NamedTuple):
    """An object's bytes, and the tag that a later replacement must still find."""

    data: bytes
    tag: str


class ObjectFiles:
    """See doors.Files. One for all buckets."""

    def __init__(self) -> None:
        try:
            import obstore
        except ModuleNotFoundError as error:
            raise NeumannError("obstore is not installed", remedy="pip install 'neumann[s3]'") from error
        self._obstore = obstore
        self._stores: dict[str, S3Store] = {}
        self._listed: dict[str, int] = {}

    # --- reading ---------------------------------------------------------------------------------

    def open(self, path: str) -> DistantFile[ObjectFiles]:
        size = self._listed.get(path)
        if size is None:
            found = self.stat(path)
            if found.is_directory:
                raise no_file(path, found.kind)
            size = found.size_bytes
        return DistantFile(self, path, size)

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True

    def stat(self, path: str) -> FileStat:
        bucket, key = _split(path)
        with self._failures(path):
            if key:
                try:
                    found = self._obstore.head(self._store(bucket), key)
                    return FileStat(found["size"], 1, 0, "file", 0)
                except FileNotFoundError:
                    pass
        if not self.list(path) and key:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return FileStat(0, 1, 0, "directory", 0)

    def list(self, path: str) -> list[str]:
        bucket, key = _split(path)
        with self._failures(path):
            found = self._obstore.list_with_delimiter(self._store(bucket), key or None)
        sizes = {f"{path}/{_last(meta['path'])}": meta["size"] for meta in found["objects"]}
        self._listed.update(sizes)
        names = {_last(prefix) for prefix in found["common_prefixes"]}
        return sorted(names | {_last(name) for name in sizes})

    def read_link(self, path: str) -> str:
        raise OSError(errno.EINVAL, "an object is no link", path)

    def read(self, path: str, length: int, offset: int) -> bytes:
        """That part, which lies inside of the object."""
        bucket, key = _split(path)
        with self._failures(path):
            return bytes(self._obstore.get_range(self._store(bucket), key, start=offset, length=length))

    def get(self, path: str) -> Stored:
        """The whole object."""
        bucket, key = _split(path)
        with self._failures(path):
            found = self._obstore.get(self._store(bucket), key)
            return Stored(bytes(found.bytes()), found.meta["e_tag"] or "")

    # --- writing ---------------------------------------------------------------------------------

    def create(self, path: str, data: bytes) -> None:
        """Put an object that is not there; FileExistsError if it is."""
        bucket, key = _split(path)
        self._listed.clear()
        with self._failures(path):
            try:
                self._obstore.put(self._store(bucket), key, data, mode="create", use_multipart=False)
            except self._obstore.exceptions.AlreadyExistsError as error:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error

    def replace(self, path: str, data: bytes, tag: str) -> None:
        """Put in place of the object that had this tag; FileExistsError if it is another one by now."""
        bucket, key = _split(path)
        self._listed.clear()
        with self._failures(path):
            try:
                self._obstore.put(
                    self._store(bucket),
                    key,
                    data,
                    mode={"e_tag": tag},
                    use_multipart=False,
                )
            except self._obstore.exceptions.PreconditionError as error:
                raise FileExistsError(errno.EEXIST, "was replaced meanwhile", path) from error

    def put(self, path: str, data: bytes) -> None:
        """Put, whatever is there."""
        bucket, key = _split(path)
        self._listed.clear()
        with self._failures(path):
            self._obstore.put(self._store(bucket), key, data, use_multipart=False)

    def delete(self, path: str) -> None:
        """Remove it, if it is there."""
        bucket, key = _split(path)
        self._listed.clear()
        with self._failures(path):
            self._obstore.delete(self._store(bucket), key)

    # --- the store -------------------------------------------------------------------------------

    def _store(self, bucket: str) -> S3Store:
        if bucket not in self._stores:
            from obstore.store import S3Store

            is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
            self._stores[bucket] = S3Store(
                bucket,
                client_options={
                    "timeout": _TIMEOUT,
                    "connect_timeout": _DIAL_TIMEOUT,
                    "allow_http": is_plain,
                },
                retry_config={"max_retries": _TRIES - 1, "retry_timeout": timedelta(seconds=_GIVE_UP_S)},
            )
        return self._stores[bucket]

    @contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        """obstore's errors as ours. It has tried again already what may pass."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        except self._obstore.exceptions.BaseError as error:
            said = str(error)
            if "NoSuchBucket" in said:
                bucket = SCHEME + _split(path)[0]
                raise NotFound(
                    f"{bucket} does not exist", remedy="check its name and the endpoint"
                ) from error
            text = said.partition("\n")[0][:500]
            raise Unavailable(
                f"{path}: the object store failed: {text}",
                remedy="check the AWS_ variables of the environment; try again",
            ) from error


def _split(path: str) -> tuple[str, str]:
    """(bucket, key); the key has no slash at its ends."""
    bucket, _, key = path.removeprefix(SCHEME).partition("/")
    return bucket, key.strip("/")


def _last(key: str) -> str:
    return key.rstrip("/").rpartition("/")[2]
