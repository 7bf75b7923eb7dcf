"""Other hosts and object stores for tests, real ones on loopback: an sshd, and an S3 server.

Each has keys, ports and directories of its own, and ends with the context manager that made it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_ports

ALIAS = "backup"
BUCKET = "backups"
_START_S = 30.0


@dataclass(frozen=True)
class SshHost:
    """An sshd; `ssh -F config backup` reaches it, as this user, with this machine's file system."""

    config: Path
    port: int

    @property
    def environ(self) -> dict[str, str]:
        """What makes our programs use that configuration."""
        return {"NEUMANN_SSH": f"ssh -F {self.config}"}

    def run(self, command: str) -> bool:
        """Run a command there; whether it ended with 0. (Its mounts are its own.)"""
        return not subprocess.run(
            ["ssh", "-F", str(self.config), ALIAS, command], capture_output=True
        ).returncode


@contextlib.contextmanager
def ssh_host(root: Path) -> Iterator[SshHost]:
    """An sshd with own keys; its files lie in `root`."""
    (port,) = free_ports(1)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True)
    shutil.copy(root / "user.pub", root / "authorized_keys")
    public = " ".join((root / "host.pub").read_text().split()[:2])
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    (root / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\n"
        f"AuthorizedKeysFile {root}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nLogLevel ERROR\n"
        "PasswordAuthentication no\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    (root / "ssh_config").write_text(
        f"Host {ALIAS}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {root}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {root}/known_hosts\n"
        "  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
    )
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    assert sshd is not None, "openssh-server is not installed"
    command = f"exec {sshd} -D -e -f {root}/sshd_config"
    if os.geteuid() == 0:  # it wants /run/sshd, which is made in a mount namespace of its own
        command = f"mount -t tmpfs none /run && mkdir -m 755 /run/sshd && {command}"
        arguments = ["unshare", "-m", "sh", "-c", command]
    else:
        arguments = ["sh", "-c", command]
    with open(root / "sshd.log", "wb") as log:
        process = subprocess.Popen(arguments, stderr=log)
    try:
        _wait_for(port, process)
        yield SshHost(root / "ssh_config", port)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Store:
    """An S3 server with one empty bucket."""

    port: int

    @property
    def environ(self) -> dict[str, str]:
        """What makes our programs and `aws` use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """A moto_server; what is in it is gone with it."""
    (port,) = free_ports(1)
    server = Path(sys.executable).parent / "moto_server"
    process = subprocess.Popen(
        [str(server), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request).close()
        yield Store(port)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"nothing listens on {port} after {_START_S} s"
            time.sleep(0.05)
