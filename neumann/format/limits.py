"""The limits that are part of the format: every node must agree on them, so no config can change them.

A leader may be configured below them (`[limits]`); a reader accepts up to them and nothing above.
"""

from __future__ import annotations

KEY_BYTES_MAX = 64 * 1024
TABLE_BYTES_MAX = 255
VALUE_BYTES_MAX = 4 * 1024 * 1024
BATCH_ROWS_MAX = 100_000

COMMAND_BYTES_MAX = 8 * 1024 * 1024
"""One entry. The configured limits on keys, values and rows apply first."""

FRAME_BODY_BYTES_MAX = 16 * 1024 * 1024
"""One frame; more than one command of the largest size always fits."""

FRAME_ENTRIES_MAX = 65_536

RPC_MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""Checked before anything is decoded; a frame of the largest size fits with its envelope."""

NODE_ID_BYTES_MAX = 64
RESTORE_POINT_BYTES_MAX = 128

PAUSE_MAX_S = 24 * 3600.0
"""No pause of writes is longer; who needs more asks again."""

SESSIONS_MAX = 1024
"""Client sessions that the state remembers; one more evicts the least recently used."""

SESSION_SERIALS_MAX = 128
"""Serials of a session whose outcome is remembered: so many commands a client may have open in it."""

FEATURE_LEVEL = 1
"""The newest feature level this release writes and reads (design section 5, docs/format.md "Versions")."""
