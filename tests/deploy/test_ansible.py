"""deploy/ansible: what its template makes is a configuration, by the reader that every start uses.

`scripts/deploy-check` has Ansible itself read the playbook.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

import jinja2
import pytest
import yaml

from neumann import config
from tests.deploy import DEPLOY
from tests.procedures.pages import DOCS, blocks

ANSIBLE = DEPLOY / "ansible"
INVENTORY = yaml.safe_load((ANSIBLE / "inventory.example.yml").read_text())["all"]
NODES = list(INVENTORY["hosts"])


def rendered(node: str, **changed: str) -> str:
    """As Ansible's template module does it, with its settings."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((ANSIBLE / "templates/config.toml.j2").read_text())
    shared = INVENTORY["vars"] | changed
    variables: dict[str, Any] = shared | INVENTORY["hosts"][node]
    hostvars = {name: shared | own for name, own in INVENTORY["hosts"].items()}
    return template.render(inventory_hostname=node, groups={"all": NODES}, hostvars=hostvars, **variables)


@pytest.mark.parametrize("node", NODES)
def test_each_node_gets_a_configuration_that_a_start_takes(node: str) -> None:
    found = config.load(rendered(node), "config.toml", {}, {})
    assert found.node.id == node and len(found.node.others) == 2
    assert found.node.advertise == found.node.peers[node]


def test_it_is_the_configuration_of_the_runbook() -> None:
    [printed] = [block.text for block in blocks(DOCS / "runbook.md") if block.language == "toml"]
    assert tomllib.loads(rendered("n1")) == tomllib.loads(printed)


def test_with_a_token_it_may_be_asked_from_elsewhere() -> None:
    text = rendered("n2", neumann_admin_listen="0.0.0.0:9090", neumann_token_file="token")
    found = config.load(text, "config.toml", {}, {})
    assert found.security.token_file == "/etc/neumann/token"
    copied = (ANSIBLE / "tasks/configure.yml").read_text()
    assert f"dest: {found.security.token_file}" in copied


def test_what_the_playbook_names_is_there() -> None:
    """Files that it imports and copies, and the variables of the example inventory, no more and no fewer."""
    texts = {path: path.read_text() for path in (ANSIBLE / "site.yml", *(ANSIBLE / "tasks").iterdir())}
    for text in texts.values():
        assert yaml.safe_load(text)
        for name in re.findall(r"import_tasks: (\S+)", text):
            assert (ANSIBLE / name).exists()
        for name in re.findall(r"\{\{ playbook_dir \}\}/(\S+)\"", text):
            assert (ANSIBLE / name).exists()
    text = "".join(texts.values()) + (ANSIBLE / "templates/config.toml.j2").read_text()
    given = {*INVENTORY["vars"], *(name for own in INVENTORY["hosts"].values() for name in own)}
    made = set(re.findall(r"(?m)^ +(neumann_\w+): ", text))
    assert set(re.findall(r"\bneumann_\w+", text)) - made == given - {"ansible_host"}


def test_nodes_are_restarted_one_at_a_time() -> None:
    [*_, last] = yaml.safe_load((ANSIBLE / "site.yml").read_text())
    assert last["serial"] == 1 and last["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/restart.yml"
    names = [task["name"] for task in yaml.safe_load((ANSIBLE / "tasks/restart.yml").read_text())]
    assert names.index("The cluster is safe") < names.index("Restart it") < len(names) - 1


def test_the_interpreter_is_the_distribution_s() -> None:
    """Bug: `python3` was the first of root's PATH, once below /root, where the service may not look."""
    tasks = yaml.safe_load((ANSIBLE / "tasks/install.yml").read_text())
    [made] = [task["ansible.builtin.command"]["argv"] for task in tasks if "virtual" in task["name"]]
    assert made[:3] == ["/usr/bin/python3", "-m", "venv"]
