"""Plants one bug into the running product, and takes it out again."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class Mutation(NamedTuple):
    """In `module`, in `function` (dotted below the module), `old` becomes `new`.

    `bugs` are rows of the table of known bugs (tests/known_bugs.py); `tests` are node ids, each of which
    must fail while the bug is planted.
    """

    name: str
    module: str
    function: str
    old: str
    new: str
    bugs: tuple[int, ...] = ()
    tests: tuple[str, ...] = ()


@contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """While inside, the function does what the patched source says."""
    module = importlib.import_module(mutation.module)
    assert module.__file__ is not None
    source = Path(module.__file__).read_text()
    function = _function(module, mutation.function)
    text = inspect.getsource(function)
    assert text.count(mutation.old) == 1, (
        f"{mutation.name}: {mutation.function} has changed, so must the patch"
    )
    assert source.count(text) == 1
    patched = source.replace(text, text.replace(mutation.old, mutation.new))
    sound = function.__code__
    function.__code__ = _code(compile(patched, module.__file__, "exec"), mutation.function)
    try:
        yield
    finally:
        function.__code__ = sound


def _function(module: Any, path: str) -> FunctionType:
    found = module
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "__func__", found)  # of a static or a class method
    assert isinstance(found, FunctionType)
    return found


def _code(of: CodeType, qualname: str) -> CodeType:
    waiting = [of]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == qualname:
            return code
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
    raise AssertionError(f"no function {qualname}")
