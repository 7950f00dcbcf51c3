#!/usr/bin/env bash
# Mirrors directories into a Strongroom volume with rsync, everything included (hard links, ACLs, xattrs): mount, copy, verify,
# unmount, report. Needs root to keep owners.
set -euo pipefail
# shellcheck source=mount-scripts/examples/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 3 ] || usage
url=$1 dir=$2
shift 2

mount_volume "$url" "$dir"
target=$dir/mirror
mkdir -p "$target"
say "copying: $*"
rsync -aHAX --delete "$@" "$target/"
say "verifying"
differences=$(rsync -aHAXn --delete --itemize-changes "$@" "$target/")
if [ -n "$differences" ]; then
    printf '%s\n' "$differences" | head -20
    say "the copy differs (or the source changed meanwhile)"
    exit 1
fi
report "$dir"
