"""docs/runbook.md, executed: every block as it is printed, on real processes, with the rows checked.

A machine of the page is a directory here, `<root>/<machine>/`, laid out as a machine is. `Site.adapted`
puts every absolute path of a block below it, `systemctl` starts and stops the machine's process, and
`ssh` runs its command here; everything else runs through bash as it stands: a block that does not say
`set -e` itself goes on behind what failed, as it does for who types it. The sections share one
cluster; their order is that of ORDER, since a restored cluster has an archive of several timelines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neumann.cli.group import RESERVED, group
from tests.procedures.cluster import BIN, Cluster, Member, run
from tests.procedures.pages import DOCS, Block, blocks

PAGE = DOCS / "runbook.md"
NODES, NEW_NODES = ("n1", "n2", "n3"), ("m1", "m2", "m3")
STRICT = "set -euo pipefail\n"
UNTIL = "2024-01-15T10:30:00Z"
ORDER = (
    "Runbook: backup and restore",
    "Hot snapshot",
    "Cold full backup",
    "WAL archiving",
    "Verification",
    "Retention",
    "Membership",
    "A majority of the disks is gone",
    "Point-in-time recovery",
    "Full cluster restore",
    "Disaster recovery",
)
_ABSOLUTE = re.compile(r"(?<![\w/.%$*})])/(?!/)[\w/.*-]*")  # a path from the root, not the rest of one
_SYSTEMCTL = re.compile(r"systemctl (start|stop) neumann\n")


class Site:
    """The machines of the page."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.until = UNTIL
        self.repository = root / "backup/backups/neumann"
        [config] = [block for block in blocks(PAGE) if block.language == "toml"]
        sections = tomllib.loads(config.text.replace("/mnt/backup", str(self.repository)))
        own = {section: keys for section, keys in sections.items() if section != "node"}
        self.cluster = Cluster(root, NODES, own)
        self.new_cluster = Cluster(root, NEW_NODES, own)
        self.fourth = Member("n4", root)
        peers = {member.id: member.address for member in (*self.cluster.members, self.fourth)}
        self.fourth.write_config(peers, own)
        for machine in (*NODES, *NEW_NODES, "n4", "backup"):
            (root / machine / "tmp").mkdir(parents=True, exist_ok=True)
        (root / "offsite").mkdir()
        (root / "bin").mkdir()
        (root / "bin/ssh").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        (root / "bin/ssh").chmod(0o755)

    def close(self) -> None:
        self.cluster.stop()
        self.new_cluster.stop()
        if self.fourth.is_running():
            self.fourth.stop()

    def member(self, machine: str) -> Member | None:
        """None for a machine that is no node."""
        if machine == "n4":
            return self.fourth
        cluster = self.cluster if machine in NODES else self.new_cluster
        return cluster[machine] if machine in NODES + NEW_NODES else None

    def adapted(self, text: str, machine: str) -> str:
        """The block with the paths, address, owner and time of this place. No path leads out of it."""
        here, member = self.root / machine, self.member(machine)
        shared = {
            "/mnt/backup": self.repository,
            "/backups/neumann": self.repository,
            "/offsite": self.root / "offsite",
        }

        def place(match: re.Match[str]) -> str:
            path = match[0]
            for printed, own in shared.items():
                if path == printed or path.startswith(f"{printed}/"):
                    return f"{own}{path.removeprefix(printed)}"
            return f"{here}{path}"

        return (
            _ABSOLUTE.sub(place, text)
            .replace("http://127.0.0.1:9090", member.admin_url if member else "nowhere")
            .replace("10.0.0.4:7878", self.fourth.address)
            .replace("neumann:neumann", f"{os.getuid()}:{os.getgid()}")
            .replace(UNTIL, self.until)
        )

    def type(self, block: Block) -> str:
        """Execute a block on each of its machines; what they said."""
        said = []
        for machine in block.machines:
            strict = block.text.startswith(STRICT)
            parts = _SYSTEMCTL.split(block.text.removeprefix(STRICT))
            for number, part in enumerate(parts):
                if number % 2:
                    self._systemctl(machine, part)
                elif part:
                    said.append(self._bash(machine, STRICT * strict + part, block.line))
        return "".join(said)

    def _systemctl(self, machine: str, verb: str) -> None:
        member = self.member(machine)
        assert member is not None
        if verb == "start":
            member.start("--bootstrap")
        elif member.is_running():
            member.stop()

    def _bash(self, machine: str, text: str, line: int) -> str:
        member = self.member(machine)
        environ = dict(member.environ) if member else {}
        environ["PATH"] = f"{self.root}/bin:{BIN}:{os.environ['PATH']}"
        ended = run(["bash", "-c", self.adapted(text, machine)], environ)
        assert ended.code == 0, (
            f"docs/runbook.md, block at line {line}, on {machine}: {ended.code}\n{ended.out}{ended.err}"
        )
        return ended.out

    def section(self, name: str) -> list[str]:
        """Execute a section; what each of its blocks said."""
        found = [block for block in blocks(PAGE) if block.section == name and block.language == "sh"]
        assert found, f"docs/runbook.md has no commands in {name!r}"
        return [self.type(block) for block in found]

    def put(self, key: str, value: object) -> None:
        answer = self.cluster["n1"].request("PUT", f"/kv/cities/{key}", value)
        assert answer.status == 200, answer

    def lose_disk(self, machine: str) -> None:
        """Its process ends with it; a new one, empty, is there. `systemctl stop` finds nothing to stop."""
        member = self.member(machine)
        assert member is not None
        member.kill()
        for name in ("raft", "store"):
            shutil.rmtree(member.data / name)

    def rows(self, cluster: Cluster) -> dict[str, Any]:
        """What every member says; they have to agree."""
        said = [
            {row["key"]: row["value"] for row in member.request("GET", "/kv/cities").body["rows"]}
            for member in cluster.members
        ]
        assert said[0] == said[1] == said[2]
        return said[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.section("Runbook: backup and restore")
    try:
        site.cluster.start("--bootstrap")
        site.cluster.wait_voters(3)
        for number in range(50):
            site.put(f"k{number:02}", number)
        yield site
    finally:
        site.close()


@pytest.mark.timeout(300)
def test_the_page(site: Site) -> None:
    """One test, as one operator goes through the page: each section needs what those before it left."""
    snapshots = site.repository / "snapshots"
    site.section("Hot snapshot")
    assert (snapshots / "latest/manifest").exists()
    assert json.loads((site.repository / "metadata.json").read_text())["members"]

    site.section("Cold full backup")
    backed_up = site.rows(site.cluster)
    [tarball] = (site.repository / "full").glob("neumann-backup-*.tar.gz")
    assert tarball.stat().st_mode & 0o077 == 0

    site.put("later", 1)
    assert "WRONG" not in site.section("WAL archiving")[0]

    counted = site.section("Verification")[1]
    assert f"total_entries {len(site.rows(site.cluster))}" in counted

    segments = len(list((site.repository / "wal").glob("*.wal")))
    published = len(list(snapshots.iterdir()))
    site.section("Retention")
    assert len(list((site.repository / "wal").glob("*.wal"))) <= segments
    assert len(list(snapshots.iterdir())) == published  # fewer than thirty: none goes

    before = site.rows(site.cluster)
    site.lose_disk("n3")
    listed, _, replaced, *_ = site.section("Membership")
    assert "n2 leads" in listed and replaced.startswith("SAFE")
    assert site.rows(site.cluster) == before

    site.lose_disk("n2")
    site.lose_disk("n3")
    _, began, _, joined = site.section("A majority of the disks is gone")
    assert "adopted this member's state" in began and "n2" in joined
    assert site.rows(site.cluster) == before

    wanted = site.rows(site.cluster)
    time.sleep(0.05)
    site.until = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    time.sleep(0.05)
    site.put("accident", 1)
    site.section("Point-in-time recovery")
    assert site.rows(site.cluster) == wanted

    site.lose_disk("n3")
    site.section("Full cluster restore")
    assert site.rows(site.cluster) == backed_up

    site.cluster.stop()
    site.section("Disaster recovery")
    assert site.rows(site.new_cluster) == backed_up


def test_no_command_reaches_this_machine(tmp_path: Path) -> None:
    """Bug: `-C / ` was not adapted after some words, and a backup was unpacked to this machine's own /var."""
    site = Site(tmp_path / "site")
    for block in blocks(PAGE):
        for machine in block.machines:
            words = re.split(r"[\s'\"=:]+", site.adapted(block.text, machine))
            paths = [word for word in words if word.startswith("/") and not word.startswith("//")]
            assert [path for path in paths if not path.startswith(f"{site.root}/")] == []


def test_every_section_with_commands_is_executed() -> None:
    assert {block.section for block in blocks(PAGE) if block.language == "sh"} == set(ORDER)


def test_every_block_says_where_it_is_typed() -> None:
    assert [block.line for block in blocks(PAGE) if block.language == "sh" and not block.machines] == []


def test_a_block_of_several_lines_ends_at_the_first_that_fails() -> None:
    """Bug: where `rejoin` was refused the block went on, unpacked an older backup over a live directory, and
    ended with 0; here blocks ran under `bash -e`, which nobody types."""
    several = [block for block in blocks(PAGE) if block.language == "sh" and block.text.count("\n") > 1]
    assert [block.line for block in several if not block.text.startswith(STRICT)] == []


def test_what_is_called_absent_is_absent() -> None:
    absent = PAGE.read_text().partition("## What is not in this release")[2]
    named = set(re.findall(r"`([a-z]+-[a-z]+|expire|drill|export|import)`", absent))
    assert named & set(group.commands) == set()
    assert named == set(RESERVED)


def test_every_verb_that_is_typed_is_there() -> None:
    typed = {verb for block in blocks(PAGE) for verb in re.findall(r"neumann-admin ([a-z-]+)", block.text)}
    assert typed - set(group.commands) == set()
