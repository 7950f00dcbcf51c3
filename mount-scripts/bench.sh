#!/usr/bin/env bash
# Measures Strongroom beside its peers (rclone mount with crypt, s3fs with gocryptfs) and beside plain S3: the same work, on the same
# embedded S3 server, on loopback and with 20 ms added to each request. Installs what is missing (Debian), builds, prints tables.
#
#   bench.sh              all of it, two rounds interleaved; takes about an hour and a half
#   bench.sh --quick      an eighth of the work; a quarter of an hour
#
#   --systems LIST        some of: strongroom,rclone,s3fs,plain
#   --latencies LIST      milliseconds added to each request, for instance 0,20 (the default)
#   --steps LIST          only these pieces of work, for instance random,overwrite,random-again; some need what another leaves behind
#   --rounds NUMBER       how often each is measured (2)
#   --timeout SECONDS     a piece of work that takes longer is given up (900)
#   --no-raw              without the column for plain S3
#   --no-install          install nothing; a system that is not there is left out
#   --write-docs          put the tables and plots into docs/benchmarks.md and docs/benchmarks/
#   --docs DIR            ... into a copy of docs instead
#   --from FILE           measure nothing, report what an earlier run has left in target/bench/results.json
#
# STRONGROOM_PROGRAM names a program that is built already, STRONGROOM_BENCH_DIR another directory than target/bench (it needs 5 GiB).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${STRONGROOM_BENCH_DIR:-$here/target/bench}
systems=strongroom,rclone,s3fs,plain
install=yes
docs=
results=
arguments=()

die() { printf 'bench.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'bench.sh: %s: see bench.sh --help\n' "$*" >&2; exit 2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else die "needs root for: $*"; fi
}

# value OPTION COUNT VALUE PATTERN: complains unless the option has a value that matches.
value() {
    [ "$2" -ge 2 ] || wrong "$1 needs a value"
    [[ $3 =~ ^$4$ ]] || wrong "'$3' is not a value for $1"
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --quick) arguments+=(--quick) ;;
        --systems) value "$1" $# "${2:-}" '(strongroom|rclone|s3fs|plain)(,(strongroom|rclone|s3fs|plain))*'; systems=$2; shift ;;
        --latencies) value "$1" $# "${2:-}" '[0-9]{1,5}(,[0-9]{1,5})*'; arguments+=(--latencies "$2"); shift ;;
        --steps) value "$1" $# "${2:-}" '[a-z-]+(,[a-z-]+)*'; arguments+=(--steps "$2"); shift ;;
        --rounds) value "$1" $# "${2:-}" '[1-9][0-9]?'; arguments+=(--rounds "$2"); shift ;;
        --timeout) value "$1" $# "${2:-}" '[1-9][0-9]{0,5}'; arguments+=(--timeout "$2"); shift ;;
        --no-raw) systems=$(printf '%s' "$systems" | tr , '\n' | grep -vx plain | paste -sd, || true) ;;
        --no-install) install=no ;;
        --write-docs) docs=${docs:-$here/docs} ;;
        --docs) value "$1" $# "${2:-}" '.+'; docs=$2; shift ;;
        --from) value "$1" $# "${2:-}" '.+'; results=$2; shift ;;
        *) wrong "unknown option '$1'" ;;
    esac
    shift
done
[ -n "$systems" ] || wrong 'no system is left to measure'
[ -z "$docs" ] || [ -f "$docs/benchmarks.md" ] || die "there is no $docs/benchmarks.md"
[ -z "$results" ] || [ -f "$results" ] || die "there is no $results"

measures() { [[ ,$systems, == *,$1,* ]]; }

install_missing() {
    local missing=() pair
    # program:package
    local needed=(python3:python3 fusermount3:fuse3 setpriv:util-linux unshare:util-linux tar:tar find:findutils)
    measures rclone && needed+=(rclone:rclone)
    measures s3fs && needed+=(s3fs:s3fs gocryptfs:gocryptfs)
    [ -n "${STRONGROOM_PROGRAM:-}" ] || needed+=(cc:gcc make:make)
    for pair in "${needed[@]}"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ -n "${STRONGROOM_PROGRAM:-}" ] || [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || die "install these and run it again: ${missing[*]}"
        printf 'installing: %s\n' "${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
}

# leave_out SYSTEM PROGRAM...: drops a peer that is not installed.
leave_out() {
    local system=$1 program
    shift
    for program in "$@"; do
        if measures "$system" && ! command -v "$program" >/dev/null; then
            printf 'bench.sh: %s is not installed: without %s\n' "$program" "$system" >&2
            systems=$(printf '%s' "$systems" | tr , '\n' | grep -vx "$system" | paste -sd, || true)
        fi
    done
}

build() {
    program=${STRONGROOM_PROGRAM:-}
    if [ -n "$program" ]; then
        program=$(command -v "$program") || die "STRONGROOM_PROGRAM: there is no program $STRONGROOM_PROGRAM"
        program=$(realpath "$program")
        return
    fi
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null || die "Rust 1.95 or newer is missing; install it from https://rustup.rs and run this again"
    printf 'building (the first time takes some minutes)\n'
    (cd "$here" && cargo build --locked --release --bin strongroom)
    program=${CARGO_TARGET_DIR:-$here/target}/release/strongroom
}

if [ -n "$results" ]; then
    arguments+=(--from "$results")
else
    if [ "$install" = yes ]; then install_missing; fi
    leave_out rclone rclone
    leave_out s3fs s3fs gocryptfs
    [ -n "$systems" ] || die 'none of the systems is installed'
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || die "/dev/fuse is missing; in a container pass --device /dev/fuse"
    build
    arguments+=(--program "$program" --systems "$systems")
fi
[ -z "$docs" ] || arguments+=(--docs "$docs")
mkdir -p "$work"
# A FUSE mount goes on for as long as any mount namespace holds a copy of it. In one of its own nobody can copy the mounts of this run
# (a container that starts meanwhile would), and whatever ends the run ends them.
isolated=()
if [ -z "$results" ] && [ "$(id -u)" -eq 0 ] && unshare --mount --propagation slave true 2>/dev/null; then
    isolated=(unshare --mount --propagation slave --)
    arguments+=(--isolated)
fi
# It takes this process's place, so that Ctrl-C and signals reach the one that cleans up.
export PYTHONDONTWRITEBYTECODE=1
exec "${isolated[@]}" python3 "$here/mount-scripts/bench/run.py" --work "$(realpath "$work")" "${arguments[@]}"
