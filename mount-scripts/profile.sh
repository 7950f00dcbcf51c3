#!/usr/bin/env bash
# Shows where the processor time of a mount goes: reads a file of 1 GiB from a cold mount over the embedded S3 server, records the mount with
# perf, and prints the shares by what they are spent on, and the largest functions.
#
#   profile.sh read              in order
#   profile.sh warm              in order, when all of it lies in the disk cache (give that 2GiB)
#   profile.sh random            4 KiB at random places, one at a time
#
#   --memory SIZE                of the mount (256MiB)
#   --disk-cache SIZE            of the mount (off)
#
# STRONGROOM_PROGRAM names a program that is built already (with its symbols). Installs linux-perf where it is missing (Debian). Needs root.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
memory=256MiB
disk_cache=off
work=

die() { printf 'profile.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '$d'; exit 0 ;;
        read | warm | random) work=$1 ;;
        --memory | --disk-cache)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in --memory) memory=$2 ;; *) disk_cache=$2 ;; esac
            shift ;;
        *) die "unknown option '$1': see profile.sh --help" ;;
    esac
    shift
done
[ -n "$work" ] || die "say what to read, such as 'profile.sh read': see profile.sh --help"
[ "$(id -u)" -eq 0 ] || die "run it as root: perf records another process"
for pair in perf:linux-perf fusermount3:fuse3 python3:python3; do
    command -v "${pair%%:*}" >/dev/null && continue
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${pair#*:}" >/dev/null
done
program=${STRONGROOM_PROGRAM:-}
if [ -z "$program" ]; then
    (cd "$here" && cargo build --locked --release --bin strongroom)
    program=${CARGO_TARGET_DIR:-$here/target}/release/strongroom
fi

dir=$(mktemp -d)
mkdir "$dir"/{objects,mnt,state}
server=
recorder=
# shellcheck disable=SC2317  # called by the trap
clear_away() {
    [ -z "$recorder" ] || kill -INT "$recorder" 2>/dev/null || true
    # What an interrupted run has not uploaded is not needed any more.
    pkill -9 -f "mount s3://vault/profile $dir/mnt" || true
    ! grep -q " $dir/mnt " /proc/mounts || umount -l "$dir/mnt"
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap clear_away EXIT

export AWS_ACCESS_KEY_ID=profile AWS_SECRET_ACCESS_KEY=profile-secret AWS_REGION=us-east-1
: >"$dir/listening"
"$program" serve "$dir/objects" --listen 127.0.0.1:0 --no-sync >"$dir/listening" 2>"$dir/server.log" &
server=$!
for _ in $(seq 100); do grep -q http "$dir/listening" && break; sleep 0.1; done
endpoint=$(grep -o 'http://[0-9.:]*' "$dir/listening") || die "the server did not start: $(cat "$dir/server.log")"
head -c 16 /dev/urandom | od -An -tx1 >"$dir/pass"
common=(--endpoint-url "$endpoint" --passphrase-file "$dir/pass" --state-dir "$dir/state")
"$program" init s3://vault/profile --create-bucket "${common[@]}" >/dev/null 2>&1

mount_volume() {
    "$program" mount s3://vault/profile "$dir/mnt" "${common[@]}" --memory "$memory" --disk-cache "$disk_cache"
}
unmount_volume() { "$program" umount "$dir/mnt" --state-dir "$dir/state" >/dev/null; }
process() { "$program" status "$dir/mnt" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mount"]["pid"])'; }

mount_volume
head -c 1G /dev/urandom >"$dir/mnt/file"
if [ "$work" = warm ]; then
    # Uploads fill the cache too; a reading completes it.
    unmount_volume
    mount_volume
    cat "$dir/mnt/file" >/dev/null
fi
unmount_volume
sync
echo 1 >/proc/sys/vm/drop_caches
mount_volume
pid=$(process)
ticks() { awk '{print $14, $15}' "/proc/$pid/stat"; }
read -r user kernel < <(ticks)
perf record -q -F 999 -g -p "$pid" -o "$dir/perf.data" &
recorder=$!
sleep 1
python3 - "$work" "$dir/mnt/file" <<'READ'
import os, random, sys, time

work, path = sys.argv[1:]
file = os.open(path, os.O_RDONLY)
size = os.fstat(file).st_size
began = time.monotonic()
if work != "random":
    while os.read(file, 1 << 20):
        pass
    seconds = time.monotonic() - began
    print(f"read in order: {size / seconds / 2**20:.0f} MiB/s")
else:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    chance, reads = random.Random(1), 0
    while time.monotonic() < began + 12:
        os.pread(file, 4096, chance.randrange(size // 4096) * 4096)
        reads += 1
    print(f"read 4 KiB at random places, one at a time: {reads / 12:.0f} a second")
READ
kill -INT "$recorder"
wait "$recorder" || true
recorder=
read -r user_after kernel_after < <(ticks)
awk -v user=$((user_after - user)) -v kernel=$((kernel_after - kernel)) -v hz="$(getconf CLK_TCK)" \
    'BEGIN { printf "processor time of the mount: %.2f s in the program, %.2f s in the kernel\n\n", user / hz, kernel / hz }'
unmount_volume

perf report -i "$dir/perf.data" --no-children -g none --sort sym --percent-limit 0 2>/dev/null | python3 -c '
import re, sys
from collections import Counter

# The first that fits counts.
GROUPS = [
    ("sealing (aws-lc)", r"aws_lc"),
    ("AWS SDK: requests, signatures", r"aws_sdk|aws_sigv4|aws_smithy|aws_"),
    ("HTTP (hyper)", r"hyper|http"),
    ("copies and clearing in memory", r"mem(move|cpy|set)"),
    ("allocator", r"je_|malloc|free|calloc|alloc::"),
    ("tokio", r"tokio|mio"),
    ("fuser", r"fuser"),
    ("Strongroom", r"strongroom"),
]
shares, functions = Counter(), []
for line in sys.stdin:
    found = re.match(r"\s*([\d.]+)%\s+\[(.)\] (.*)", line)
    if not found:
        continue
    share, where, name = float(found[1]), found[2], found[3].strip()
    functions.append((share, name))
    if where == "k":
        group = "kernel"
    else:
        group = next((group for group, pattern in GROUPS if re.search(pattern, name)), "other")
    shares[group] += share
for group, share in shares.most_common():
    print(f"{share:5.1f} %  {group}")
print()
for share, name in sorted(functions, reverse=True)[:12]:
    print(f"{share:5.1f} %  {name}")
'
