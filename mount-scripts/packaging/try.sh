#!/usr/bin/env bash
# Tries the Debian package as a user would: in a bare Debian it is installed with its dependencies, a volume is made in an S3 server
# beside it, mounted with mount(8), backed up to with restic, unmounted with umount(8), mounted and restored; then the package is
# removed, and nothing of it may be left. Needs root; installs debootstrap and systemd-container (Debian). Takes two minutes.
#
#   try.sh PACKAGE.deb      STRONGROOM_TRY_DIR names another directory than target/packaging-try
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=${STRONGROOM_TRY_DIR:-$here/target/packaging-try}

die() { printf 'try.sh: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) printf "try.sh: unknown option '%s': see try.sh --help\n" "$1" >&2; exit 2 ;;
    '') printf 'try.sh: name a package: see try.sh --help\n' >&2; exit 2 ;;
esac
package=$(realpath "$1")
[ -e "$package" ] || die "there is no $1"
[ "$(id -u)" -eq 0 ] || die 'needs root: it runs a container'

missing=()
for pair in debootstrap:debootstrap systemd-nspawn:systemd-container; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

mkdir -p "$work"
base=$work/base
if [ ! -e "$base/usr/bin/dpkg" ]; then
    printf 'making a bare Debian\n'
    rm -rf "$base"
    debootstrap --variant=minbase bookworm "$base" >"$work/debootstrap.log" 2>&1 || die "debootstrap failed: see $work/debootstrap.log"
fi
root=$(mktemp -d "$work/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
cp -a "$base/." "$root/"
# How the machine reaches packages, the bare Debian does too.
cp -a /etc/apt/. "$root/etc/apt/"
cp -aL /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
cp "$package" "$root/root/strongroom.deb"

cat >"$root/root/walk.sh" <<'END'
#!/bin/bash
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive HOME=/root
step() { printf -- '-- %s\n' "$*"; "$@"; }

step apt-get update -qq
# What the walk itself needs, so that the lists of files compare the package alone.
apt-get install -y -qq --no-install-recommends restic fuse3 ca-certificates procps mount >/dev/null
files() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /root -o -path /run -o -path /var/cache \
    -o -path /var/log -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /etc/ld.so.cache \) -prune -o -print | sort; }
files >/root/before

step apt-get install -y -qq --no-install-recommends /root/strongroom.deb >/dev/null
step strongroom --version
[ -s /usr/share/man/man1/strongroom-mount.1.gz ]
[ -s /usr/share/bash-completion/completions/strongroom ]
[ -s /usr/lib/systemd/system/strongroom@.service ]
grep -q '^ExecStart=/usr/bin/strongroom ' /usr/lib/systemd/system/strongroom@.service

mkdir /root/vault /root/photos
for number in $(seq 40); do head -c $((number * 20000)) /dev/urandom >/root/photos/$number; done
head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >/root/pass
export AWS_ACCESS_KEY_ID=try AWS_SECRET_ACCESS_KEY=secret-of-the-try AWS_REGION=us-east-1 RESTIC_PASSWORD=inner
strongroom serve /root/objects --listen 127.0.0.1:0 --no-sync >/root/serve.log 2>&1 &
server=$!
until AWS_ENDPOINT_URL_S3=$(grep -o 'http://127.0.0.1:[0-9]*' /root/serve.log); do kill -0 $server; sleep 0.1; done
export AWS_ENDPOINT_URL_S3
step strongroom init s3://bucket/laptop --create-bucket --passphrase-file /root/pass >/dev/null
step mount -t strongroom s3://bucket/laptop /root/vault -o passphrase-file=/root/pass,memory=128MiB
step restic -q -r /root/vault/restic init
step restic -q -r /root/vault/restic backup /root/photos
step umount /root/vault
# umount(8) waited for the drain: the process is gone, and its end is noted as durable.
if pgrep -x strongroom | grep -vxF "$server"; then echo 'FAILED: umount did not wait'; exit 1; fi
step strongroom umount /root/vault
step strongroom mount s3://bucket/laptop /root/vault --passphrase-file /root/pass
step restic -q -r /root/vault/restic restore latest --target /root/restored
step diff -r /root/photos /root/restored/root/photos
step strongroom umount --quiet /root/vault
step strongroom fsck --data s3://bucket/laptop --passphrase-file /root/pass >/dev/null
kill $server
wait $server || true

rm -rf /var/lib/strongroom
step apt-get purge -y -qq strongroom >/dev/null
files >/root/after
step diff /root/before /root/after
echo 'the walk is over'
END
chmod 755 "$root/root/walk.sh"
printf 'walking\n'
timeout 600 systemd-nspawn --register=no --keep-unit --quiet --directory="$root" --machine=strongroom-package --capability=all \
    --bind=/dev/fuse --private-users=no --pipe /root/walk.sh </dev/null >"$work/walk.log" 2>&1 || { tail -n 20 "$work/walk.log" >&2; die "see $work/walk.log"; }
grep -q '^the walk is over$' "$work/walk.log" || die "see $work/walk.log"
printf 'installed, mounted, backed up to, restored, removed; nothing was left\n'
