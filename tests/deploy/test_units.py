"""deploy/systemd and deploy/periodic: what they start, with which flags, and what is started again.

`scripts/deploy-check` has systemd itself read them.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections import defaultdict

import pytest

from neumann.cli import server, settings
from neumann.cli.group import group
from neumann.config import NodeConfig
from neumann.errors import (
    ConfigError,
    Corrupt,
    DiskFull,
    FormatTooNew,
    InUse,
    NeumannError,
    RefusedByState,
    StorageFailed,
    Unavailable,
    WrongHistory,
)
from tests.deploy import DEPLOY
from tests.procedures.pages import DOCS, blocks

RUNBOOK = DOCS / "runbook.md"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
HOME = "/opt/neumann/bin/"

# Each script of deploy/periodic: the blocks of the runbook that it is made of, by section and machine.
PERIODIC = {
    "copy-snapshot": [("Hot snapshot", "n2")],
    "full-backup": [("Cold full backup", "n2")],
    "verify": [("Hot snapshot", "backup"), ("Verification", "backup")],
    "retention": [("Retention", "backup")],
}


def keys_of(name: str) -> dict[str, list[str]]:
    """Every key of a unit with its values; sections do not matter here, as no key is in two."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def codes_of(*classes: type[NeumannError]) -> set[str]:
    return {str(cls.exit_code) for cls in classes}


def test_the_node_is_started_as_the_runbook_says() -> None:
    [command] = keys_of("neumann.service")["ExecStart"]
    assert f"starts `{command.removeprefix('/opt/neumann/bin/')}`" in RUNBOOK.read_text()
    program, *flags = shlex.split(command)
    assert program == HOME + "neumann"
    arguments = server.parser().parse_args(flags)
    assert (arguments.config, arguments.bootstrap) == (settings.DEFAULT_PATH, True)


@pytest.mark.parametrize(
    ("unit", "key", "verb"),
    [
        ("neumann.service", "ExecReload", "reload"),
        ("neumann-wal-receive@.service", "ExecStart", "wal-receive"),
    ],
)
def test_every_verb_and_flag_is_one_of_ours(unit: str, key: str, verb: str) -> None:
    """Click itself parses the line; it refuses an unknown flag, and one before the verb."""
    [command] = keys_of(unit)[key]
    program, *words = shlex.split(command)
    assert (program, words[0]) == (HOME + "neumann-admin", verb)
    group.commands[verb].make_context(verb, words[1:])


def test_what_a_person_has_to_mend_is_not_started_again() -> None:
    keys = keys_of("neumann.service")
    held = set(keys["RestartPreventExitStatus"][0].split())
    assert keys["Restart"] == ["on-failure"]
    assert held == codes_of(ConfigError, Corrupt, WrongHistory, FormatTooNew, RefusedByState)
    assert not held & codes_of(NeumannError, StorageFailed, InUse, Unavailable, DiskFull)
    assert keys["StartLimitBurst"] and keys["StartLimitIntervalSec"]


def test_a_receiver_goes_on_after_a_restore() -> None:
    """Where a node of the new timeline refuses it with WrongHistory, the next start is on the new one."""
    held = set(keys_of("neumann-wal-receive@.service")["RestartPreventExitStatus"][0].split())
    assert not held & codes_of(WrongHistory, Unavailable, StorageFailed)


def test_the_helpers_of_a_node_are_not_signalled() -> None:
    """A helper process that SIGTERM ends in the middle of a flush is StorageFailed to its node."""
    assert keys_of("neumann.service")["KillMode"] == ["mixed"]


def test_what_the_node_writes_to_is_writable_for_it() -> None:
    keys = keys_of("neumann.service")
    assert keys["StateDirectory"] == [os.path.basename(NodeConfig().data_dir)]
    assert keys["WorkingDirectory"] == [NodeConfig().data_dir]
    [config] = [block.text for block in blocks(RUNBOOK) if block.language == "toml"]
    place = tomllib.loads(config)["wal"]["archive_command"].split()[-1]
    assert any(place.startswith(path.lstrip("-")) for path in keys["ReadWritePaths"])


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_programs_are_found(unit: str) -> None:
    """archive_command and the scripts name neumann-admin without its directory."""
    assert [value for value in keys_of(unit)["Environment"] if value.startswith(f"PATH={HOME.rstrip('/')}:")]


def test_what_is_periodic_is_the_runbook_word_by_word() -> None:
    assert {path.name for path in (DEPLOY / "periodic").iterdir()} == set(PERIODIC)
    printed = [block for block in blocks(RUNBOOK) if block.language == "sh"]
    for name, parts in PERIODIC.items():
        path = DEPLOY / "periodic" / name
        head, _, body = path.read_text().partition("\n\n")
        bodies = [
            block.text
            for section, machine in parts
            for block in printed
            if block.section == section and machine in block.machines
        ]
        assert body == "\n".join(bodies), f"{path} differs from docs/runbook.md"
        assert body.startswith("set -euo pipefail\n")
        assert head.startswith("#!/bin/bash\n") and all(f'"{section}"' in head for section, _ in parts)
        assert os.access(path, os.X_OK)


def test_every_script_has_its_timer_in_the_service() -> None:
    text = (DEPLOY / "systemd/neumann-periodic@.service").read_text()
    assert set(re.findall(r"neumann-periodic@([a-z-]+)\.timer", text)) == set(PERIODIC)
