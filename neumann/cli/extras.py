"""An extra that is not installed is one line with the command that installs it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from neumann.errors import NeumannError


@contextlib.contextmanager
def needed(program: str, extra: str) -> Iterator[None]:
    """Around the imports that need `neumann[extra]`; ends the program if one of its packages is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("neumann"):
            raise
        sys.stderr.write(f"{program}: {error.name} is not installed; pip install 'neumann[{extra}]'\n")
        sys.exit(NeumannError.exit_code)
