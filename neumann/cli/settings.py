"""Finds and reads the configuration file, for both programs.

A path that was given (`--config`, NEUMANN_CONFIG) must be there; the default one may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from neumann import config
from neumann.config import Config
from neumann.errors import ConfigError

DEFAULT_PATH = "/etc/neumann/config.toml"


def read_config(path: str | None, overrides: Mapping[str, object]) -> Config:
    """The configuration of this process; its data directory is absolute. Raises ConfigError."""
    given = path or os.environ.get("NEUMANN_CONFIG")
    text = ""
    if given or os.path.exists(DEFAULT_PATH):
        text = _read_text(given or DEFAULT_PATH)
    found = config.load(text, given or DEFAULT_PATH, os.environ, overrides)
    return replace(found, node=replace(found.node, data_dir=os.path.abspath(found.node.data_dir)))


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
