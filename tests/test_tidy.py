"""The rules that hold over the code itself, read from its syntax trees; nothing here is executed.

LAYERS is the import order of the project, and the only place that states it. Each rule is a
function from modules to complaints; each is run over the tree, and over made-up lines that it must
refuse. An import counts wherever it stands: in a function, or under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Read from the top, imports go down only; names on one line do not import each other.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("sync",),
    ("__init__",),
    ("embedded",),
    ("server", "client"),
    ("runtime",),
    ("query",),
    ("recovery",),
    ("archive",),
    ("snapshot",),
    ("store", "wal"),
    ("machine", "raft"),
    ("env",),
    ("format",),
    ("config",),
    ("errors",),
)
PURE = ("machine", "raft", "format")
DOORS = ("env", "cli", "__main__")  # these alone touch the operating system

OS_IMPORTS = re.compile(
    r"(concurrent|ctypes|fcntl|glob|mmap|multiprocessing|os|platform|pty|pwd|random|resource|secrets"
    r"|select|selectors|shutil|signal|socket|socketserver|ssl|subprocess|tempfile|threading|time|uuid"
    r")(\..+)?|pathlib(\.Path|\.PosixPath)?"  # PurePath only computes
)
IO_IMPORTS = re.compile(r"(aiohttp|asyncio|io|logging|neumann\.env|pathlib|uvloop)(\..+)?")
OS_CALLS = re.compile(
    r"open|(datetime\.)?(datetime|date)\.(now|utcnow|today)"
    r"|asyncio\.(open_(unix_)?connection|start_(unix_)?server|create_subprocess_\w+|to_thread)"
)

FILE_LINES_MAX, FILE_LINES_AIM = 500, 400
FUNCTION_LINES_MAX, FUNCTION_LINES_AIM = 80, 70
LEFTOVERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")


class Import(NamedTuple):
    """`import base` or `from base import name`, with a relative base resolved."""

    line: int
    base: str
    name: str = ""

    @property
    def path(self) -> str:
        return f"{self.base}.{self.name}" if self.name else self.base


@dataclass(frozen=True)
class Module:
    """A source file under its dotted name; a package's `__init__.py` bears the package's name."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.source)))

    @property
    def part(self) -> str:
        """The word of LAYERS that this module belongs to: neumann.raft.core -> raft."""
        return _part(self.name)

    @cached_property
    def imports(self) -> list[Import]:
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [Import(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._resolved(node)
                found += [Import(node.lineno, base, alias.name) for alias in node.names]
        return found

    def _resolved(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            assert node.module is not None
            return node.module
        package = self.name.split(".")
        package = package[: len(package) - node.level + self.is_package]
        return ".".join([*package, node.module] if node.module else package)


Rule = Callable[[list[Module]], list[str]]


def _part(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def read_modules(*folders: str) -> list[Module]:
    """Every Python file below the folders of the project that exist."""
    modules = []
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return modules


@cache
def product() -> list[Module]:
    return read_modules("neumann")


@cache
def everything() -> list[Module]:
    return product() + read_modules("tests", "bench", "scripts")


def edges(modules: list[Module]) -> Iterator[tuple[Module, int, str]]:
    """(importer, line, imported module) for imports within the product.

    `from neumann import __version__` is none: it takes a fact about the product, not a module.
    """
    names = {module.name for module in modules}
    for module in modules:
        for found in module.imports:
            if found.path.split(".")[0] == "neumann" and found.path != "neumann.__version__":
                yield module, found.line, found.path if found.path in names else found.base


# --- the rules -----------------------------------------------------------------------------------


def imports_go_down(modules: list[Module]) -> list[str]:
    rank = {part: number for number, line in enumerate(LAYERS) for part in line}
    wrong = [
        f"{module.name}: `{module.part}` has no place in LAYERS"
        for module in modules
        if module.part not in rank
    ]
    for module, line, target in edges(modules):
        source, below = rank.get(module.part), rank.get(_part(target))
        if source is None or below is None or module.part == _part(target):
            continue
        if below <= source:
            wrong.append(f"{module.name}:{line}: imports {target}, which is not below it")
    return wrong


def no_cycles(modules: list[Module]) -> list[str]:
    graph: dict[str, set[str]] = {module.name: set() for module in modules}
    for module, _, target in edges(modules):
        if target in graph:
            graph[module.name].add(target)
    while leaves := [name for name, below in graph.items() if not below]:
        for name in leaves:
            del graph[name]
        for below in graph.values():
            below.difference_update(leaves)
    return [f"{name}: on, or above, a cycle of imports" for name in sorted(graph)]


def pure_packages_do_no_io(modules: list[Module]) -> list[str]:
    return [
        f"{module.name}:{found.line}: a pure package imports {found.path}"
        for module in modules
        if module.part in PURE
        for found in module.imports
        if OS_IMPORTS.fullmatch(found.path) or IO_IMPORTS.fullmatch(found.path)
    ]


def only_doors_touch_the_os(modules: list[Module]) -> list[str]:
    wrong = []
    for module in modules:
        if module.part in DOORS:
            continue
        for found in module.imports:
            if OS_IMPORTS.fullmatch(found.path):
                wrong.append(f"{module.name}:{found.line}: imports {found.path}; only {DOORS} may")
        for node in module.nodes:
            if isinstance(node, ast.Call) and OS_CALLS.fullmatch(called := ast.unparse(node.func)):
                wrong.append(f"{module.name}:{node.lineno}: calls {called}(); only {DOORS} may")
    return wrong


def no_swallowed_errors(modules: list[Module]) -> list[str]:
    wrong = []
    for module in modules:
        for node in module.nodes:
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else ""
            is_silent = all(isinstance(statement, ast.Pass) for statement in node.body)
            if not caught:
                wrong.append(f"{module.name}:{node.lineno}: bare except")
            elif caught in ("Exception", "BaseException") and is_silent:
                wrong.append(f"{module.name}:{node.lineno}: an error is swallowed")
    return wrong


def sizes_are_bounded(modules: list[Module]) -> list[str]:
    wrong = []
    for module in modules:
        if (count := len(module.source.splitlines())) > FILE_LINES_MAX:
            wrong.append(f"{module.name}: {count} lines; limit {FILE_LINES_MAX}, aim {FILE_LINES_AIM}")
        for node in module.nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            assert node.end_lineno is not None
            if (count := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX:
                wrong.append(
                    f"{module.name}:{node.lineno}: {node.name} has {count} lines;"
                    f" limit {FUNCTION_LINES_MAX}, aim {FUNCTION_LINES_AIM}"
                )
    return wrong


def nothing_is_left_over(modules: list[Module]) -> list[str]:
    return [
        f"{module.name}:{number}: leftover {match[0]}"
        for module in modules
        for number, line in enumerate(module.source.splitlines(), 1)
        if (match := LEFTOVERS.search(line))
    ]


def modules_say_what_they_are(modules: list[Module]) -> list[str]:
    return [
        f"{module.name}: no docstring"
        for module in modules
        if module.source.strip() and not ast.get_docstring(ast.parse(module.source))
    ]


def no_dead_modules(modules: list[Module], entry_points: frozenset[str]) -> list[str]:
    """What no entry point reaches. A module may also be named in a string (`python -m NAME`).

    Bound to the entry points' existence: a part of the product without its commands is judged later.
    """
    by_name = {module.name: module for module in modules}
    if not entry_points <= by_name.keys():
        return []
    below: dict[str, set[str]] = {name: set() for name in by_name}
    for module, _, target in edges(modules):
        below[module.name].add(target)
    for module in modules:
        constants = {str(node.value) for node in module.nodes if isinstance(node, ast.Constant)}
        below[module.name] |= constants & by_name.keys()
    public = {name for name in by_name if _part(name) in ("__main__", "sync", "client")}
    waiting, alive = {*entry_points, *public, "neumann"} & by_name.keys(), set[str]()
    while waiting:
        name = waiting.pop()
        alive.add(name)
        package = name.rpartition(".")[0]
        waiting |= ({package, *below[name]} & by_name.keys()) - alive
    return [f"{name}: nobody imports it" for name in sorted(by_name.keys() - alive)]


def entry_points() -> frozenset[str]:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return frozenset(target.partition(":")[0] for target in scripts.values())


# --- the tree obeys ------------------------------------------------------------------------------

ON_THE_PRODUCT: tuple[Rule, ...] = (
    imports_go_down,
    no_cycles,
    pure_packages_do_no_io,
    only_doors_touch_the_os,
)
ON_EVERYTHING: tuple[Rule, ...] = (
    no_swallowed_errors,
    sizes_are_bounded,
    nothing_is_left_over,
    modules_say_what_they_are,
)


@pytest.mark.parametrize("rule", ON_THE_PRODUCT, ids=lambda rule: rule.__name__)
def test_product(rule: Rule) -> None:
    assert rule(product()) == []


@pytest.mark.parametrize("rule", ON_EVERYTHING, ids=lambda rule: rule.__name__)
def test_everything(rule: Rule) -> None:
    assert rule(everything()) == []


def test_no_dead_modules() -> None:
    assert no_dead_modules(product(), entry_points()) == []


def test_the_tree_was_read() -> None:
    """Rules over nothing would all hold."""
    assert {"neumann", "neumann.errors"} <= {module.name for module in product()}
    assert __name__ in {module.name for module in everything()}


# --- each rule bites -----------------------------------------------------------------------------

LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_go_down, "neumann.wal.scan", "from neumann.snapshot import publish"),
        (imports_go_down, "neumann.wal.scan", "import neumann.store"),
        (imports_go_down, "neumann.wal.scan", "from ..runtime import node"),
        (imports_go_down, "neumann.wal.scan", "def f():\n    from neumann import client"),
        (imports_go_down, "neumann.wal.scan", "from neumann import connect"),
        (imports_go_down, "neumann.runtime.x", "if TYPE_CHECKING:\n    import neumann.cli.admin"),
        (imports_go_down, "neumann.misc", ""),
        (pure_packages_do_no_io, "neumann.raft.core", "import asyncio"),
        (pure_packages_do_no_io, "neumann.format.names", "from pathlib import Path"),
        (pure_packages_do_no_io, "neumann.machine.apply", "from neumann.env import clock"),
        (pure_packages_do_no_io, "neumann.machine.x", "from ..env.clock import Clock"),
        (only_doors_touch_the_os, "neumann.runtime.node", "import os.path"),
        (only_doors_touch_the_os, "neumann.runtime.node", "def f():\n    from time import time"),
        (only_doors_touch_the_os, "neumann.archive.x", "from pathlib import Path"),
        (only_doors_touch_the_os, "neumann.config", "open('/etc/neumann/config.toml')"),
        (only_doors_touch_the_os, "neumann.archive.x", "datetime.datetime.now(UTC)"),
        (only_doors_touch_the_os, "neumann.server.rpc", "asyncio.start_server(serve)"),
        (no_swallowed_errors, "m", "try:\n    f()\nexcept:\n    raise"),
        (no_swallowed_errors, "m", "try:\n    f()\nexcept Exception:\n    pass"),
        (sizes_are_bounded, "m", "x = 1\n" * (FILE_LINES_MAX + 1)),
        (sizes_are_bounded, "m", LONG_FUNCTION),
        (sizes_are_bounded, "m", "async " + LONG_FUNCTION),
        (nothing_is_left_over, "m", "x = 1  # TO" + "DO: two"),
        (modules_say_what_they_are, "m", "x = 1"),
    ],
)
def test_rule_bites(rule: Rule, name: str, source: str) -> None:
    assert len(rule([Module(name, source)])) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("neumann.snapshot.publish", "from neumann.wal import scan\nfrom . import prune"),
        (
            "neumann.runtime.node",
            "from neumann import __version__\nimport asyncio\nfrom pathlib import PurePath",
        ),
        ("neumann.env.disk", "import os\nopen('x')"),
        ("neumann.cli.admin", "import sys, time"),
        ("neumann.wal.log", "async def f(disk):\n    await disk.open('x')"),
        ("neumann.raft.core", "import enum\nfrom neumann.format import frame"),
        (
            "neumann.store.x",
            "try:\n    f()\nexcept OSError as error:\n    raise Corrupt from error",
        ),
    ],
)
def test_rules_let_pass(name: str, source: str) -> None:
    modules = [Module(name, f'"""What it is."""\n{source}')]
    assert [complaint for rule in ON_THE_PRODUCT + ON_EVERYTHING for complaint in rule(modules)] == []


def test_a_cycle_is_found() -> None:
    a = Module("neumann.wal.a", "from neumann.wal import b")
    b = Module("neumann.wal.b", "def f():\n    from .c import C")
    c = Module("neumann.wal.c", "if TYPE_CHECKING:\n    from neumann.wal.a import A")
    assert no_cycles([a, b, Module("neumann.wal.c", "")]) == []
    assert len(no_cycles([a, b, c])) == 3


def test_a_package_that_exports_its_parts_is_on_a_cycle_with_a_part_that_imports_it() -> None:
    package = Module("neumann.wal", "from .log import Log\nfrom .scan import scan", is_package=True)
    log = Module("neumann.wal.log", "")
    assert no_cycles([package, log, Module("neumann.wal.scan", "from .log import Log")]) == []
    assert no_cycles([package, log, Module("neumann.wal.scan", "from neumann.wal import Log")])


def test_a_dead_module_is_found() -> None:
    main = Module("neumann.cli.admin", "from neumann.wal import log\nrun('neumann.store.helper')")
    log, helper = Module("neumann.wal.log", ""), Module("neumann.store.helper", "")
    dead = Module("neumann.wal.old", "from neumann.wal import older")
    older = Module("neumann.wal.older", "")
    roots = frozenset({main.name})
    assert no_dead_modules([main, log, helper], roots) == []
    assert len(no_dead_modules([main, log, helper, dead, older], roots)) == 2
