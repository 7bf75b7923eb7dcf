"""Files of another host, `host:path`, over ssh: what archives, snapshots and restores need of it.

One ssh with a POSIX shell on the other side takes commands and gives back their output; a file that is
written has an ssh of its own, whose input it is. Needed there: sshd, sh, and cat, head, tail, ls, ln, mv,
rm, sync. No program of ours, and no rsync: a shell can link without replacing and sync, which rsync
can't tell us of. `ssh` is the user's, with the user's ~/.ssh/config; NEUMANN_SSH names another command.
It never asks for a password.

What a lost connection left open is asked again, if it only reads; a command whose outcome is unknown is
an OSError. What is not there is FileNotFoundError, as on any disk. Not for many threads at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from neumann.env.distant import DistantFile
from neumann.env.doors import KINDS, FileStat
from neumann.env.files import no_file
from neumann.errors import NeumannError, Unavailable

COMMAND_VARIABLE = "NEUMANN_SSH"
_OPTIONS = (
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=10"),
    *("-o", "ServerAliveCountMax=3"),
)
_SHELL = "exec env LC_ALL=C sh"
_PAUSES_S = (0.5, 2.0)
_LISTINGS = 8
_CHUNK_BYTES = 1024 * 1024
_SAID_BYTES_MAX = 1000
_SSH_FAILED = 255
_ERRORS = {
    text: number
    for number in (
        *(errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR),
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOTEMPTY),
    )
    for text in (os.strerror(number), os.strerror(number).lower())
} | {"cannot overwrite existing file": errno.EEXIST}


class _Lost(Exception):
    """The connection ended; the text is what ssh said."""


class _Shell:
    """One connection: commands in, output and errors out, one after the other."""

    def __init__(self, command: Sequence[str], host: str) -> None:
        self._token = secrets.token_hex(16).encode()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `close` ends it
        try:
            self._process = _start(
                [*command, *_OPTIONS, "--", host, _SHELL], stdout=subprocess.PIPE, stderr=self._said
            )
        except NeumannError:
            self._said.close()
            raise

    def run(self, script: str) -> tuple[bytes, str]:
        """(output, last words on standard error); _Lost if the connection ends before the answer has."""
        process, end = self._process, self._token.decode()
        assert process.stdin is not None and process.stdout is not None
        line = (
            f"{{ e=$({{ {script} ; }} 2>&1 >&3 3>&- </dev/null | tail -c {_SAID_BYTES_MAX}); }} 3>&1; "
            f"printf '\\n{end} '; printf '%s' \"$e\" | tr '\\n' ' '; echo\n"
        )
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
        except OSError as error:
            raise _Lost(self._last_words()) from error
        return self._answer(process.stdout.fileno())

    def _answer(self, fd: int) -> tuple[bytes, str]:
        mark = b"\n" + self._token + b" "
        data = bytearray()
        while True:
            chunk = os.read(fd, _CHUNK_BYTES)
            if not chunk:
                raise _Lost(self._last_words())
            data += chunk
            if data.endswith(b"\n"):
                at = data.rfind(mark, -len(mark) - 2 * _SAID_BYTES_MAX)
                if at >= 0:
                    said = bytes(data[at + len(mark) :]).decode(errors="replace").strip()
                    del data[at:]
                    return bytes(data), said

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the connection was lost"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class SshFiles:
    """See doors.WritableFiles; every path begins with `host:`."""

    def __init__(self, host: str, command: Sequence[str] = ()) -> None:
        assert not host.startswith("-")
        self._host = host
        self._command = command or shlex.split(os.environ.get(COMMAND_VARIABLE, "")) or ("ssh",)
        self._shell: _Shell | None = None
        self._listed: dict[str, FileStat] = {}

    def another(self) -> SshFiles:
        """The same host by a connection of its own, for another thread. What was listed is known there."""
        made = SshFiles(self._host, self._command)
        made._listed = dict(self._listed)
        return made

    def close(self) -> None:
        """End the connection, if there is one."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()

    # --- reading ---------------------------------------------------------------------------------

    def open(self, path: str, *, write: bool = False, create: bool = False) -> SshFile:
        if create:
            self._change(f"(set -C; : > {self._quoted(path)})", path)
            return SshFile(self, path, 0)
        found = self._plain(path)
        if found.kind != "file":
            raise no_file(path, found.kind)
        return SshFile(self, path, found.size_bytes)

    def exists(self, path: str) -> bool:
        try:
            self._ask(f"ls -lnd -- {self._quoted(path)}", path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def stat(self, path: str) -> FileStat:
        output = self._ask(f"ls -lndL -- {self._quoted(path)}", path)
        return _parse(output.decode(errors="surrogateescape"))[1]

    def _listing(self, path: str) -> list[str]:
        output = self._ask(f"ls -lnA -- {self._quoted(path)}", path)
        lines = output.decode(errors="surrogateescape").splitlines()
        found = dict(_parse(line) for line in lines if not line.startswith("total "))
        self._listed.update({f"{path}/{name}": stat for name, stat in found.items() if stat.links})
        return sorted(found)

    def list(self, path: str) -> list[str]:
        for _ in range(_LISTINGS):
            try:
                return self._listing(path)
            except FileNotFoundError:  # the directory, or a name that went while `ls` looked at each
                if not self.exists(path):
                    return []
        raise Unavailable(
            f"{path} could not be listed: names went away during each of {_LISTINGS} tries",
            remedy="try again when less is written there",
        )

    def read_link(self, path: str) -> str:
        if path in self._listed:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        output = self._ask(f"ls -lnd -- {self._quoted(path)}", path).decode(errors="surrogateescape")
        name, _, content = output.rstrip("\n").partition(" -> ")
        if not name.startswith("l"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return content

    def read(self, path: str, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end."""
        name = self._quoted(path)
        if not offset:
            return self._ask(f"head -c {length} -- {name}", path)
        return self._ask(f"tail -c +{offset + 1} -- {name} | head -c {length}", path)

    def _plain(self, path: str) -> FileStat:
        """What is known of it since its directory was listed, or is asked now."""
        return self._listed.get(path) or self.stat(path)

    # --- writing ---------------------------------------------------------------------------------

    def append(self, path: str, data: bytes, offset: int) -> None:
        """Write at the end of a file, which must be at `offset`."""
        self._listed.clear()
        name = self._quoted(path)
        script = f'[ "$(wc -c < {name})" -eq {offset} ] && cat >> {name}'
        process = _start(
            [*self._command, *_OPTIONS, "--", self._host, f"{_SHELL} -c {shlex.quote(script)}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                _, said = process.communicate(data)
            except BaseException:
                process.kill()
                raise
        text = said.decode(errors="replace").strip()
        if process.returncode == _SSH_FAILED:
            raise self._unreachable(text)
        if process.returncode:
            raise _os_error(text or f"{path} does not end at byte {offset}", path)

    def sync(self, path: str) -> None:
        """fsync of a file or directory there."""
        self._change(f"sync -- {self._quoted(path)}", path)

    def sync_dir(self, path: str) -> None:
        self.sync(path)

    def rename(self, source: str, target: str) -> None:
        self._change(f"mv -f -- {self._quoted(source)} {self._quoted(target)}", target)

    def link(self, source: str, target: str) -> None:
        self._change(f"ln -- {self._quoted(source)} {self._quoted(target)}", target)

    def unlink(self, path: str) -> None:
        self._change(f"rm -- {self._quoted(path)}", path)

    # --- the connection --------------------------------------------------------------------------

    def _quoted(self, path: str) -> str:
        host, _, name = path.partition(":")
        assert host == self._host, f"{path} is not on {self._host}"
        return shlex.quote(name or ".")

    def _ask(self, script: str, path: str) -> bytes:
        """Output of a command that only reads; asked again where the connection was lost."""
        for pause_s in (*_PAUSES_S, None):
            try:
                output, said = self._connected().run(script)
                break
            except _Lost as lost:
                self.close()
                if pause_s is None:
                    raise self._unreachable(str(lost)) from None
                time.sleep(pause_s)
        if said:
            raise _os_error(said, path)
        return output

    def _change(self, script: str, path: str) -> None:
        self._listed.clear()
        try:
            _, said = self._connected().run(script)
        except _Lost as lost:
            self.close()
            raise self._unreachable(str(lost)) from None
        if said:
            raise _os_error(said, path)

    def _connected(self) -> _Shell:
        if self._shell is None:
            self._shell = _Shell(self._command, self._host)
            self._shell.run(":")  # passes over what a login prints
        return self._shell

    def _unreachable(self, said: str) -> Unavailable:
        return Unavailable(
            f"{self._host} could not be asked over ssh: {said or 'the connection was lost'}",
            remedy=f"does `ssh {self._host} true` work without a password, as this user?",
        )


class SshFile(DistantFile[SshFiles]):
    """See doors.WritableFile. Writes go to the end only."""

    def pwrite(self, data: bytes, offset: int) -> None:
        self._files.append(self._path, data, offset)
        self._size = offset + len(data)

    def sync(self) -> None:
        self._files.sync(self._path)


def _start(arguments: list[str], **streams: int | IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(arguments, stdin=subprocess.PIPE, **streams)  # type: ignore[call-overload,no-any-return]
    except FileNotFoundError as error:
        raise NeumannError(f"{arguments[0]} is not installed", remedy="install openssh-client") from error


def _parse(line: str) -> tuple[str, FileStat]:
    """A line of `ls -ln`. `links` is 0 for a symbolic link, of which nothing else is told."""
    kind = KINDS[line[0]]
    is_device = kind == "device"  # which has two numbers where others have their size
    _, links, _, _, size, *_, name = line.rstrip("\n").split(maxsplit=9 if is_device else 8)
    stat = FileStat(0 if is_device else int(size), 0 if kind == "link" else int(links), 0, kind, 0)
    return name.partition(" -> ")[0] if kind == "link" else name, stat


def _os_error(said: str, path: str) -> OSError:
    """The error that a command told of, by its text."""
    number = next((number for text, number in _ERRORS.items() if text in said), errno.EIO)
    text = os.strerror(number) if number != errno.EIO else said
    return OSError(number, text, path)
