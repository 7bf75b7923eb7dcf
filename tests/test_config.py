"""The configuration: every source, every refusal, and the relations between keys."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest

from neumann import config
from neumann.config import Config, NodeConfig, RaftConfig, WalConfig
from neumann.errors import BadInput, ConfigError
from neumann.format import command, limits

NODE = '[node]\nid = "n1"\n'


def test_defaults_are_those_of_the_interface() -> None:
    found = config.load(NODE)
    assert found.node.data_dir == "/var/lib/neumann"
    assert (found.node.listen, found.node.admin_listen) == ("127.0.0.1:7878", "127.0.0.1:9090")
    assert found.node.advertise == found.node.listen
    assert found.wal.segment_bytes_max == 64 * 1024 * 1024
    assert found.wal.archive_timeout == 60
    assert found.snapshot.interval_entries == 10_000
    assert found.store.block_bytes == 32 * 1024
    assert found == Config(node=NodeConfig(id="n1"))


def test_a_key_of_each_type() -> None:
    found = config.load(
        NODE
        + """
        peers = ["n1=127.0.0.1:7878", "n2=[::1]:7879"]
        [raft]
        auto_promote = false
        heartbeat_ms = 50
        [wal]
        archive_command = "cp %p /mnt/%f # 100%%"
        archive_timeout = 0.5
        segment_bytes_max = "1 MiB"
        retain_entries = 0
        [store]
        cache_bytes_max = 4096
        """
    )
    assert found.node.peers == {"n1": "127.0.0.1:7878", "n2": "[::1]:7879"}
    assert found.node.others == {"n2": "[::1]:7879"}
    assert (found.raft.auto_promote, found.raft.heartbeat_ms) == (False, 50)
    assert found.wal == WalConfig(
        segment_bytes_max=1024 * 1024,
        retain_entries=0,
        archive_command="cp %p /mnt/%f # 100%%",
        archive_timeout=0.5,
    )
    assert found.store.cache_bytes_max == 4096


@pytest.mark.parametrize(
    ("given", "size"),
    [(65536, 65536), ("65536", 65536), ("1 KiB", 1024), ("3MiB", 3 << 20), ("2 gib", 2 << 30), ("7 B", 7)],
)
def test_sizes(given: object, size: int) -> None:
    assert config.parse_size(given) == size


@pytest.mark.parametrize("given", ["", "MiB", "1 MB", "-1", "1.5 MiB", 1.5, True, None])
def test_what_is_no_size(given: object) -> None:
    with pytest.raises(ValueError, match="KiB"):
        config.parse_size(given)


def test_environment_then_command_line_win() -> None:
    environ = {
        "NEUMANN_NODE__ID": "n2",
        "NEUMANN_NODE__LISTEN": "127.0.0.1:1",
        "NEUMANN_NODE__PEERS": "n2=127.0.0.1:2, n3=127.0.0.1:3",
        "NEUMANN_RAFT__AUTO_PROMOTE": "false",
        "NEUMANN_RAFT__HEARTBEAT_MS": "20",
        "NEUMANN_WAL__ARCHIVE_TIMEOUT": "1.5",
        "NEUMANN_WAL__SEGMENT_BYTES_MAX": "2 MiB",
        "NEUMANN_CONFIG": "/etc/neumann/config.toml",
        "NEUMANN_ADMIN": "http://n1:9090",
        "PATH": "/bin",
    }
    overrides = {"node.listen": "127.0.0.1:2", "node.data_dir": None}
    found = config.load(NODE, "config.toml", environ, overrides)
    assert (found.node.id, found.node.listen, found.node.data_dir) == (
        "n2",
        "127.0.0.1:2",
        "/var/lib/neumann",
    )
    assert found.node.peers == {"n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}
    assert found.raft == RaftConfig(heartbeat_ms=20, auto_promote=False)
    assert (found.wal.archive_timeout, found.wal.segment_bytes_max) == (1.5, 2 << 20)


def test_the_own_entry_of_peers_is_what_others_dial() -> None:
    found = config.from_dict(
        {
            "node": {"id": "n1", "listen": "0.0.0.0:7878", "peers": ["n1=10.0.0.1:7878", "n2=10.0.0.2:7878"]},
            "security": {"insecure": True},
        }
    )
    assert found.node.advertise == "10.0.0.1:7878"


# Each line: what is added to NODE, then what the one line of the error must hold.
REFUSED = {
    "unknown key": (
        "[wal]\narchive_comand = 'cp'",
        "c.toml, line 4: [wal] archive_comand is an unknown key",
        "archive_command",
    ),
    "unknown key, far off": ("[log]\nzzz = 1", "line 4: [log] zzz is an unknown key", "did you mean"),
    "key of another section": ("archive_command = 'cp'", "line 3: [node] archive_command", "[wal]"),
    "unknown section": ("[wall]\n", "line 3: [wall] is no section", "[wal]"),
    "text for a number": (
        "[raft]\nheartbeat_ms = '100'",
        "line 4: [raft] heartbeat_ms must be a whole number, not '100'",
        "",
    ),
    "truth for a number": ("[raft]\nheartbeat_ms = true", "a whole number, not True", ""),
    "number for text": ("listen = 7878", "line 3: [node] listen must be text in quotes, not 7878", ""),
    "text for truth": ("[raft]\nauto_promote = 'yes'", "must be true or false, not 'yes'", ""),
    "text for seconds": ("[wal]\narchive_timeout = '1 min'", "must be a number of seconds, not '1 min'", ""),
    "bad size": (
        "[wal]\nsegment_bytes_max = '64 MB'",
        'must be a size in bytes such as 65536 or "64 KiB"',
        "",
    ),
    "too small": (
        "[snapshot]\ninterval_entries = 0",
        "line 4: [snapshot] interval_entries must be 1 or more, not 0",
        "",
    ),
    "too large": ("[limits]\nkey_bytes_max = '1 MiB'", "[limits] key_bytes_max must be 65536 or less", ""),
    "no choice": ("[log]\nlevel = 'loud'", "must be one of debug, info, warning, error", ""),
    "peer without id": ("peers = ['10.0.0.1:7878']", 'entries like "n1=host:7878"', ""),
    "peer without port": ("peers = ['n1=10.0.0.1']", "'10.0.0.1' is not host:port", ""),
    "peer twice": ("peers = ['n2=a:1', 'n2=b:1']", "each node once; n2 is there twice", ""),
    "address twice": ("peers = ['n2=a:1', 'n3=a:1']", "each address once; a:1 is there twice", ""),
    "peers no list": ("peers = 'n2=a:1'", 'must be a list like ["n1=host:7878"]', ""),
    "self elsewhere": (
        "peers = ['n1=127.0.0.1:1']\nadvertise = '127.0.0.1:2'",
        "[node] peers names n1 at 127.0.0.1:1",
        "the same",
    ),
    "listen everywhere": (
        "listen = '0.0.0.0:7878'\nadvertise = '10.0.0.1:7878'",
        "line 3: [node] listen 0.0.0.0:7878 is reachable",
        "security.insecure = true",
    ),
    "admin everywhere": (
        "admin_listen = '10.0.0.1:9090'",
        "line 3: [node] admin_listen 10.0.0.1:9090 is reachable",
        "token_file",
    ),
    "undialable": (
        "listen = '0.0.0.0:7878'\n[security]\ninsecure = true",
        "0.0.0.0:7878 is no address that a peer can dial",
        "node.advertise",
    ),
    "no port": (
        "listen = 'localhost'",
        "line 3: [node] listen 'localhost' is not host:port",
        "10.0.0.7:7878",
    ),
    "same port twice": ("admin_listen = '127.0.0.1:7878'", "is the same as listen", "another port"),
    "election too early": (
        "[raft]\nelection_timeout_ms = 200",
        "200 is less than three heartbeats of 100 ms",
        "one heartbeat",
    ),
    "unknown placeholder": (
        "[wal]\narchive_command = 'cp %p /mnt/%d'",
        "unknown placeholder '%d'",
        "%p is the file's path",
    ),
    "bare percent": (
        "[wal]\narchive_command = 'cp %p /mnt/%f %'",
        "unknown placeholder '%'",
        "%% a percent sign",
    ),
    "no file named": ("[wal]\narchive_command = '/bin/true'", "archive_command names no file", "%p"),
    "later release": (
        "[security]\ntls_cert_file = 'a.pem'",
        "line 4: [security] tls_cert_file belongs to a later release",
        "remove",
    ),
    "no node id": ("[node.x]\n", "x is an unknown key", "did you mean"),
    "not TOML": ("[wal\n", "c.toml: not TOML", "line 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    added, message, remedy = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        config.load(NODE + added, "c.toml")
    assert message in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.exit_code, caught.value.http_status) == (2, 400)


def test_the_same_key_twice_names_both_lines() -> None:
    """The runbook's own text shows archive_command twice below one [wal]."""
    text = NODE + (
        "[wal]\n"
        'archive_command = "aws s3 cp %p s3://backups/neumann/wal/%f"\n'
        "archive_timeout = 60 # seconds\n"
        "# Or to local storage\n"
        'archive_command = "cp %p /mnt/backup/wal/%f"\n'
    )
    with pytest.raises(ConfigError) as caught:
        config.load(text, "config.toml")
    assert str(caught.value) == "config.toml, lines 4 and 7: [wal] archive_command is given 2 times; keep one"


def test_the_same_section_twice_names_both_lines() -> None:
    with pytest.raises(
        ConfigError, match=re.escape("config.toml, lines 3 and 5: [wal] is given 2 times; join")
    ):
        config.load(NODE + "[wal]\narchive_timeout = 1\n[wal]\nretain_entries = 1\n", "config.toml")


def test_lines_of_a_multi_line_text_are_no_keys() -> None:
    """A shell command over several lines may hold what looks like a key of the section."""
    text = (
        NODE + '[wal]\narchive_command = """\narchive_timeout = 1; cp %p /mnt/%f\n"""\narchive_timeout = -1\n'
    )
    with pytest.raises(ConfigError, match=r"c\.toml, line 7: "):
        config.load(text, "c.toml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "NEUMANN_WAL__ARCHIVE_COMAND",
            "x",
            "environment, NEUMANN_WAL__ARCHIVE_COMAND: [wal] archive_comand is",
        ),
        ("NEUMANN_WALL__X", "x", "environment, NEUMANN_WALL__X: [wall] is no section; did you mean [wal]?"),
        ("NEUMANN_RAFT__HEARTBEAT_MS", "fast", "must be a whole number, not 'fast'"),
        ("NEUMANN_RAFT__AUTO_PROMOTE", "1", "must be true or false, not '1'"),
    ],
)
def test_refused_in_the_environment(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(NODE, "c.toml", {name: value})
    assert message in str(caught.value)


@pytest.mark.parametrize("node_id", ["", "-n", "a b", "n/1", "x" * 65])
def test_node_id(node_id: str) -> None:
    with pytest.raises(ConfigError, match=r'\[node\] id .*id = "n1"'):
        config.check(Config(node=NodeConfig(id=node_id)))


@pytest.mark.parametrize("address", ["7878", "host:", ":7878", "host:0", "host:65536", "host:x", "host:²"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadInput, match="is not host:port"):
        config.split_address(address)


def test_upper_bounds_are_those_of_the_format() -> None:
    bounds = {f.name: f.metadata["most"] for f in fields(config.LimitsConfig)}
    assert bounds["key_bytes_max"] == limits.KEY_BYTES_MAX
    assert bounds["value_bytes_max"] == limits.VALUE_BYTES_MAX
    assert bounds["batch_rows_max"] == limits.BATCH_ROWS_MAX
    node_id = config.Config(node=NodeConfig(id="n" * limits.NODE_ID_BYTES_MAX))
    config.check(node_id)


def test_default_limits_are_those_of_a_command() -> None:
    found, own = config.LimitsConfig(), command.Limits()
    assert (found.key_bytes_max, found.value_bytes_max, found.batch_rows_max) == own


def test_every_key_is_described() -> None:
    for section in fields(Config):
        for key in fields(section.default_factory):  # type: ignore[arg-type]
            assert key.metadata["text"] or key.metadata["choices"], key.name


# --- changes while a node runs ----------------------------------------------------------------------


def test_what_is_taken_and_what_waits() -> None:
    running = config.from_dict({"node": {"id": "n1"}})
    given = config.from_dict({"node": {"id": "n1", "peers": ["n2=h2:7878"]}, "wal": {"archive_timeout": 5}})
    found = config.changes(running, given)
    assert found.config == replace(running, wal=given.wal)
    assert [(c.key, c.running, c.given) for c in found.taken] == [("[wal] archive_timeout", 60.0, 5.0)]
    assert [c.key for c in found.waiting] == ["[node] peers"]
    assert config.changes(running, running) == (running, (), ())


def test_what_is_taken_must_go_with_what_stays() -> None:
    """Without the token, which a reload takes away, the open port, which it can't close, is not protected."""
    node = {"id": "n1", "admin_listen": "0.0.0.0:9090"}
    running = config.from_dict({"node": node, "security": {"token_file": "/token"}})
    given = config.from_dict({"node": {"id": "n1"}})
    with pytest.raises(ConfigError, match="admin_listen"):
        config.changes(running, given)
