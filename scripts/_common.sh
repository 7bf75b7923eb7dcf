# Sourced by every script except setup:  source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
#
# Leaves behind: strict mode, `root` (the checkout), an up-to-date .venv first in PATH, and the
# checkout as the working directory, so that each script works from anywhere.
# shellcheck shell=bash
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
"$root/scripts/setup"
export PATH="$root/.venv/bin:$PATH"
cd "$root"
