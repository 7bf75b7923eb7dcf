"""The verbs of `neumann-admin` for people: under which heading each stands, and an example of it.

Every verb is here once; tests/cli/test_help.py compares this table with the commands, and parses the
examples. `Headed` makes the help of it, scripts/reference the reference.
"""

from __future__ import annotations

import click

HEADINGS: dict[str, dict[str, str]] = {
    "Cluster": {
        "cluster-status": "neumann-admin cluster-status --wait 60 --for voters=3",
        "cluster-info": "neumann-admin cluster-info --output metadata.json",
        "init-cluster": "neumann-admin init-cluster --bootstrap --yes",
        "rejoin": "neumann-admin rejoin --data-dir /var/lib/neumann --yes",
        "member-list": "neumann-admin member-list --format json",
        "member-add": "neumann-admin member-add n4=10.0.0.4:7878 --learner",
        "member-promote": "neumann-admin member-promote n4",
        "member-remove": "neumann-admin member-remove n1",
        "leader-transfer": "neumann-admin leader-transfer --to n2",
        "reload": "neumann-admin reload",
        "config-check": "neumann-admin config-check /etc/neumann/config.toml",
    },
    "Data": {
        "get": "neumann-admin get cities berlin",
        "put": """neumann-admin put cities berlin '{"country": "DE"}' --if-absent""",
        "delete": "neumann-admin delete cities berlin --if-revision 17",
        "scan": "neumann-admin scan cities --prefix ber --limit 10 --format json",
        "query": """neumann-admin query "SELECT country, COUNT(*) FROM cities GROUP BY country" """.strip(),
        "stats": "neumann-admin stats | grep total_entries",
        "pause-writes": 'neumann-admin pause-writes --max 10m --reason "full backup"',
        "resume-writes": "neumann-admin resume-writes",
    },
    "Snapshots": {
        "snapshot": "neumann-admin snapshot --timeout 120",
        "snapshot-list": "neumann-admin snapshot-list --dir /mnt/backup/snapshots",
        "restore-point": "neumann-admin restore-point before-upgrade",
    },
    "Archive": {
        "wal-push": "neumann-admin wal-push /var/lib/neumann/raft/wal/FILE.wal /mnt/backup/wal",
        "wal-receive": "neumann-admin wal-receive backup:/backups/neumann/wal --status-interval 10",
        "wal-list": "neumann-admin wal-list --repo /mnt/backup",
        "wal-verify": "neumann-admin wal-verify --repo /mnt/backup --since 2024-01-01T00:00:00Z",
        "wal-search": "neumann-admin wal-search --repo /mnt/backup --table cities --key berlin --op delete",
        "archive-flush": "neumann-admin archive-flush --timeout 60",
        "archive-check": "neumann-admin archive-check --repo /mnt/backup --timeout 60",
        "archive-stop": 'neumann-admin archive-stop --reason "no archive any more" --yes',
    },
    "Recovery": {
        "wal-replay": "neumann-admin wal-replay --repo /mnt/backup --until 2024-01-15T10:30:00Z --dry-run",
        "backup-restore": "neumann-admin backup-restore --repo /mnt/backup --until-name before-upgrade --yes",
        "aside-list": "neumann-admin aside-list",
        "aside-return": "neumann-admin aside-return 2024-01-15T103000Z --yes",
        "aside-delete": "neumann-admin aside-delete 2024-01-15T103000Z --yes",
    },
    "Check": {
        "verify-checksums": "neumann-admin verify-checksums --data-dir /var/lib/neumann --content",
        "inspect": "neumann-admin inspect FILE.wal --entries --limit 20",
    },
    "This program": {
        "completion": "source <(neumann-admin completion bash)",
    },
}


class Headed(click.Group):
    """A group whose commands are listed under HEADINGS, each with its example at the end of its help."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        example = next((verbs[cmd_name] for verbs in HEADINGS.values() if cmd_name in verbs), None)
        if command is not None and example is not None:
            command.epilog = f"\b\nExample:\n  {example}"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, verbs in HEADINGS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name, command.get_short_help_str(200))
                        for name in verbs
                        if (command := self.get_command(ctx, name))
                    ]
                )
