#!/usr/bin/env bash
# Backs up with restic into a Strongroom volume: mount, back up, verify, unmount, report.
# RESTIC_PASSWORD_FILE or RESTIC_PASSWORD_COMMAND holds restic's own password; without one the repository is made
# without a password (the volume is sealed already).
set -euo pipefail
# shellcheck source=mount-scripts/examples/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 3 ] || usage
url=$1 dir=$2
shift 2

mount_volume "$url" "$dir"
password=()
if [ -z "${RESTIC_PASSWORD_FILE:-}${RESTIC_PASSWORD_COMMAND:-}${RESTIC_PASSWORD:-}" ]; then
    password=(--insecure-no-password)
    # restic before 0.17 does not know that option; a fixed password is as good there.
    if ! restic help init 2>&1 | grep -q insecure-no-password; then
        password=()
        export RESTIC_PASSWORD=strongroom
    fi
fi
repository=$dir/restic
[ -e "$repository/config" ] || restic --repo "$repository" "${password[@]}" init
say "backing up: $*"
restic --repo "$repository" "${password[@]}" backup "$@"
say "verifying"
restic --repo "$repository" "${password[@]}" check --read-data-subset="${STRONGROOM_VERIFY_SHARE:-10%}"
report "$dir"
