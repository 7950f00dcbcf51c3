#!/usr/bin/env bash
# Backs up with borg into a Strongroom volume: mount, back up, verify, unmount, report.
# BORG_PASSPHRASE or BORG_PASSCOMMAND makes an encrypted repository; without one it is made with
# --encryption=none (the volume is sealed already).
set -euo pipefail
# shellcheck source=mount-scripts/examples/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 3 ] || usage
url=$1 dir=$2
shift 2

mount_volume "$url" "$dir"
repository=$dir/borg
if [ -z "${BORG_PASSPHRASE:-}${BORG_PASSCOMMAND:-}" ]; then
    encryption=none
    export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
else
    encryption=repokey
fi
[ -e "$repository/config" ] || borg init --encryption="$encryption" "$repository"
say "backing up: $*"
borg create --stats "$repository::{hostname}-{now:%Y-%m-%dT%H:%M:%S}" "$@"
say "verifying"
borg check --archives-only --last 1 "$repository"
report "$dir"
