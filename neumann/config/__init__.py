"""The configuration: one frozen value for the whole process (interface.md, section 3).

`load` reads TOML text, the environment and the command line; `check` is for a `Config` made in code;
`changes` tells what a running node takes of another one.
"""

from neumann.config.changes import Change, Changes, changes
from neumann.config.keys import (
    NODE_ID,
    BackupConfig,
    Config,
    LimitsConfig,
    LogConfig,
    NodeConfig,
    RaftConfig,
    SecurityConfig,
    SnapshotConfig,
    StoreConfig,
    WalConfig,
    check,
    split_address,
)
from neumann.config.reader import from_dict, load, parse_size

__all__ = [
    "NODE_ID",
    "BackupConfig",
    "Change",
    "Changes",
    "Config",
    "LimitsConfig",
    "LogConfig",
    "NodeConfig",
    "RaftConfig",
    "SecurityConfig",
    "SnapshotConfig",
    "StoreConfig",
    "WalConfig",
    "changes",
    "check",
    "from_dict",
    "load",
    "parse_size",
    "split_address",
]
