#!/usr/bin/env bash
# Tries strongroom@.service with a real systemd: boots a bare Debian in a container, starts the service there against the embedded S3
# server, writes, and powers off while most of it is not in the store yet. Then everything must be in the bucket. Also holds the
# unit's exposure (`systemd-analyze security`) to 4.0. Needs root; installs debootstrap and systemd-container (Debian). Takes three minutes.
#
#   try.sh      STRONGROOM_PROGRAM names a program that is built already, STRONGROOM_TRY_DIR another directory than target/systemd
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
unit=$here/mount-scripts/systemd/strongroom@.service
work=${STRONGROOM_TRY_DIR:-$here/target/systemd}

die() { printf 'try.sh: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
    '') ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf "try.sh: unknown option '%s': see try.sh --help\n" "$1" >&2; exit 2 ;;
esac
[ "$(id -u)" -eq 0 ] || die 'needs root: it boots a container'

missing=()
for pair in debootstrap:debootstrap systemd-nspawn:systemd-container systemd-analyze:systemd; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

systemd-analyze security --offline=true --threshold=40 "$unit" >/dev/null 2>&1 || die 'the exposure of the unit is above 4.0'

program=${STRONGROOM_PROGRAM:-}
if [ -z "$program" ]; then
    (cd "$here" && cargo build --locked --release --bin strongroom)
    program=${CARGO_TARGET_DIR:-$here/target}/release/strongroom
fi

mkdir -p "$work"
root=$work/root
if [ ! -e "$root/usr/bin/systemctl" ]; then
    printf 'making a bare Debian\n'
    rm -rf "$root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,fuse3,ca-certificates,procps bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
        die "debootstrap failed: see $work/debootstrap.log"
fi

run=$(mktemp -d "$work/run.XXXXXX")
server=
clean() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    if mountpoint -q "$run/mnt"; then fusermount3 -u "$run/mnt" || true; fi
    rm -rf "$run"
}
trap clean EXIT

# A store, 100 ms away, and a volume in it.
AWS_ACCESS_KEY_ID=try AWS_SECRET_ACCESS_KEY=$(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n')
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
"$program" serve "$run/objects" --listen 127.0.0.1:0 --no-sync --latency 100ms >"$run/serve.log" 2>&1 &
server=$!
endpoint=
for _ in $(seq 100); do
    endpoint=$(grep -o 'http://127.0.0.1:[0-9]*' "$run/serve.log" | head -1 || true)
    [ -z "$endpoint" ] || break
    sleep 0.1
done
[ -n "$endpoint" ] || die "the store did not start: $(cat "$run/serve.log")"
head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$run/pass"
options=(--endpoint-url "$endpoint" --region us-east-1 --passphrase-file "$run/pass" --state-dir "$run/state")
"$program" init s3://bucket/laptop --create-bucket "${options[@]}" >/dev/null

# The service, as its head says.
install "$program" "$root/usr/local/bin/strongroom"
install -m 644 "$unit" "$root/etc/systemd/system/"
rm -rf "$root/etc/strongroom" "$root/var/lib/strongroom" "$root/root/walk.log"
mkdir -p "$root/etc/strongroom" "$root/mnt/vault" "$root/etc/systemd/system/multi-user.target.wants"
cat >"$root/etc/strongroom/laptop.conf" <<END
STRONGROOM_URL=s3://bucket/laptop
STRONGROOM_DIR=/mnt/vault
STRONGROOM_OPTIONS=--memory 128MiB --region us-east-1 --endpoint-url $endpoint
AWS_SHARED_CREDENTIALS_FILE=/etc/strongroom/aws
END
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$root/etc/strongroom/aws"
cp "$run/pass" "$root/etc/strongroom/laptop.passphrase"
chmod 600 "$root"/etc/strongroom/*

# A walk that runs once the container is up.
cat >"$root/root/walk.sh" <<'END'
#!/bin/bash
exec >/root/walk.log 2>&1
set -x
systemctl start strongroom@laptop || echo FAILED start
grep -q ' /mnt/vault fuse.strongroom ' /proc/mounts || echo FAILED: the mount is not seen outside the service
head -c 30000000 /dev/urandom >/mnt/vault/first
systemctl stop strongroom@laptop || echo FAILED stop
grep -q ' /mnt/vault ' /proc/mounts && echo FAILED: still mounted
systemctl start strongroom@laptop || echo FAILED start again
cmp -s /mnt/vault/first <(cat /mnt/vault/first) || echo FAILED to read
head -c 80000000 /dev/urandom >/mnt/vault/large
for number in $(seq 300); do echo "$number" >"/mnt/vault/small$number"; done
(cd /mnt/vault && sha256sum first large small*) >/root/sums
systemctl poweroff
END
chmod 755 "$root/root/walk.sh"
printf '[Service]\nType=oneshot\nExecStart=/root/walk.sh\n' >"$root/etc/systemd/system/walk.service"
ln -sf ../walk.service "$root/etc/systemd/system/multi-user.target.wants/walk.service"
# Where the machine has the first version of control groups, the container has it too.
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0
printf 'booting\n'
timeout 180 env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY systemd-nspawn --register=no --keep-unit --quiet --directory="$root" --boot --machine=strongroom-try \
    --capability=all --bind=/dev/fuse --private-users=no </dev/null >"$work/boot.log" 2>&1 || die "the container did not end by itself: see $work/boot.log"
if ! [ -e "$root/root/sums" ] || grep FAILED "$root/root/walk.log" | grep -v '^+'; then die "see $root/root/walk.log and $work/boot.log"; fi

# Everything that was written before the machine went off is in the bucket.
mkdir "$run/mnt"
"$program" mount s3://bucket/laptop "$run/mnt" --read-only "${options[@]}"
(cd "$run/mnt" && sha256sum --quiet --check "$root/root/sums") || die 'the bucket lacks what was written before the machine went off'
"$program" umount "$run/mnt" --quiet --state-dir "$run/state"
rm -f "$root/root/sums"
printf 'the service started, stopped, and drained at power-off; exposure at most 4.0\n'
