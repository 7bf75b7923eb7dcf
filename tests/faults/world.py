"""A private world for a run: its own network, in which hosts are namespaces on one bridge, and own mounts.

`enter` replaces this process by itself in new network and mount namespaces, so nothing that a run makes
is seen outside, and the kernel takes all of it away when the last process of the run ends, however that
ends; servers are started so that they end with us. Cuts are rules that drop packets in the receiver's
namespace: nobody is told, and one direction goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "NEUMANN_IN_FAULTS_WORLD"
_TOOLS = {"ip": "iproute2", "iptables": "iptables", "mkfs.ext4": "e2fsprogs", "setpriv": "util-linux"}
_UNSHARE = ("unshare", "--net", "--mount")
CLIENTS = "clients"
"""The host that is this process's own namespace."""


def why_impossible() -> str:
    """Why this machine can't have such a world, in one line; "" where it can."""
    if os.environ.get(_INSIDE):
        return ""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"system packages are missing: apt-get install {' '.join(missing)}"
    if subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode:
        return "this machine lets nobody make namespaces; it takes CAP_SYS_ADMIN"
    return ""


def enter(module: str) -> None:
    """Begin `module` again, with the same arguments, in a new world; returns where that has happened."""
    if os.environ.get(_INSIDE):
        return
    environ = {**os.environ, _INSIDE: "1"}
    words = [*_UNSHARE, sys.executable, "-m", module, *sys.argv[1:]]
    os.execvpe(words[0], words, environ)


def must(*words: str | Path) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise OSError(f"`{' '.join(str(word) for word in words)}` ended with {done.returncode}: {said}")
    return done.stdout


class Network:
    """Hosts with an address each, `10.78.0.N`; `CLIENTS` is one more. Only inside of a world."""

    def __init__(self, hosts: Sequence[str]) -> None:
        assert os.environ.get(_INSIDE), "the machine's own network is left alone"
        self._hosts = list(hosts)
        self._cuts: set[tuple[str, str]] = set()
        must("mount", "-t", "tmpfs", "faults", "/run")  # where `ip` keeps the names of namespaces
        must("ip", "link", "set", "lo", "up")
        must("ip", "link", "add", "br0", "type", "bridge")
        must("ip", "address", "add", f"{self.address(CLIENTS)}/24", "dev", "br0")
        must("ip", "link", "set", "br0", "up")
        for host in hosts:
            wire = f"to-{host}"
            must("ip", "netns", "add", host)
            must("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", host)
            must("ip", "link", "set", wire, "master", "br0", "up")
            must("ip", "-n", host, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                must("ip", "-n", host, "link", "set", link, "up")

    def address(self, host: str) -> str:
        """Its IP address."""
        return f"10.78.0.{254 if host == CLIENTS else self._hosts.index(host) + 1}"

    def launcher(self, host: str) -> tuple[str, ...]:
        """What runs a command there, as a process that ends with the thread that started it."""
        return ("nsenter", f"--net=/run/netns/{host}", "setpriv", "--pdeathsig", "KILL")

    def cut(self, source: str, target: str) -> None:
        """Packets from `source` do not arrive at `target` any more; the other way they do."""
        if (source, target) not in self._cuts:
            self._cuts.add((source, target))
            self._iptables(target, "--append", source)

    def mend(self, source: str, target: str) -> None:
        """They arrive again."""
        if (source, target) in self._cuts:
            self._cuts.remove((source, target))
            self._iptables(target, "--delete", source)

    def mend_all(self) -> None:
        """Everybody hears everybody."""
        for source, target in sorted(self._cuts):
            self.mend(source, target)

    def _iptables(self, where: str, action: str, source: str) -> None:
        inside = () if where == CLIENTS else ("nsenter", f"--net=/run/netns/{where}")
        must(*inside, "iptables", "--wait", action, "INPUT", "--source", self.address(source), "-j", "DROP")
