# Shared by the examples: mounts, runs, unmounts, reports. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

usage() {
    cat >&2 <<TXT
usage: $(basename "$0") URL DIR SOURCE...
  URL     the volume, s3://bucket/prefix; make it once with 'strongroom init'
  DIR     where to mount it
  SOURCE  what to back up
Options for 'strongroom mount' go into STRONGROOM_MOUNT_OPTIONS; the passphrase comes from the file that
STRONGROOM_PASSPHRASE_FILE names, or is asked for.
TXT
    exit 2
}

# mount_volume URL DIR
mount_volume() {
    local -a options=()
    read -r -a options <<<"${STRONGROOM_MOUNT_OPTIONS:-}"
    mkdir -p "$2"
    say "mounting $1 on $2"
    strongroom mount "$1" "$2" "${options[@]}"
    mounted=$2
    trap 'unmount_volume' EXIT
}

# Unmounts and waits until everything is in the store. Its exit code is the script's.
unmount_volume() {
    local before=$? code=0
    trap - EXIT
    say "unmounting, waiting until everything is in the store"
    strongroom umount "$mounted" || code=$?
    if [ "$before" -ne 0 ]; then
        say "FAILED: the backup itself (exit code $before)"
        exit "$before"
    elif [ "$code" -ne 0 ]; then
        say "FAILED: not everything is in the store (exit code $code)"
        exit "$code"
    fi
    say "done: backed up, verified, in the store"
}

# report DIR: what it cost.
report() {
    strongroom status "$1" | sed 's/^/    /'
}
