#!/usr/bin/env bash
# Prometheus scrapes a real mount that works, with an outage of its store in the middle: the alerts of strongroom.rules.yml must fire and clear.
#
#   walk.sh [MINUTES] [PROGRAM]    10 minutes (8 at least, and one or two more for the end) with target/release/strongroom
#
# Below 40 minutes the rules' `for:` are shorter in proportion. Prints what fired when, and draws docs/monitoring.svg from the queries of the
# dashboard. Needs prometheus, restic, rsync and fuse3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1:-} in
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
for program in prometheus promtool restic rsync fusermount3 python3; do
    if ! command -v "$program" >/dev/null; then
        printf 'walk.sh: %s is missing\n' "$program" >&2
        exit 1
    fi
done
exec python3 -B "$here/walk.py" "${1:-10}" "${2:-$here/../../target/release/strongroom}"
