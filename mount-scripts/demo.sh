#!/usr/bin/env bash
# Try Strongroom out: builds it, starts the embedded S3 server on loopback, makes a volume in it and mounts that at
# ./demo/mnt. Installs what is missing (Debian). `demo.sh stop` ends all of it and leaves nothing behind.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=${STRONGROOM_DEMO_DIR:-$PWD/demo}
pid_file=$demo.pid
out_file=$demo.out

say() { printf '%s\n' "$*"; }
die() { printf 'demo.sh: %s\n' "$*" >&2; exit 1; }

usage() {
    say "usage: demo.sh [start|stop]"
    say "  start  build, start the store, make a volume, mount it at ./demo/mnt (the default)"
    say "  stop   end all of it and remove ./demo"
    say "STRONGROOM_DEMO_DIR names another directory than ./demo, STRONGROOM_PROGRAM a program that is built already."
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else die "needs root for: $*"; fi
}

install_missing() {
    local missing=()
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    if [ -z "${STRONGROOM_PROGRAM:-}" ]; then
        command -v cc >/dev/null || missing+=(gcc)
        [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
        command -v make >/dev/null || missing+=(make)
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || die "install these and run it again: ${missing[*]}"
        say "installing: ${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || die "/dev/fuse is missing; in a container pass --device /dev/fuse"
}

build() {
    if [ -n "${STRONGROOM_PROGRAM:-}" ]; then
        program=$STRONGROOM_PROGRAM
        return
    fi
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null || die "Rust 1.95 or newer is missing; install it from https://rustup.rs and run this again"
    say "building (the first time takes some minutes)"
    # This profile compiles faster than a release.
    (cd "$here" && cargo build --locked --profile demo --bin strongroom)
    program=${CARGO_TARGET_DIR:-$here/target}/demo/strongroom
}

running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

start() {
    running && die "it runs already; 'demo.sh stop' ends it"
    install_missing
    build
    [ ! -e "$demo" ] || die "$demo exists already; 'demo.sh stop' removes what an earlier demo left there"
    : >"$out_file"
    setsid "$program" demo "$demo" >"$out_file" 2>&1 </dev/null &
    echo $! >"$pid_file"
    for _ in $(seq 300); do
        if grep -q '^A volume is mounted on' "$out_file"; then
            sed 's/ Stop with Ctrl-C\.//' "$out_file"
            say "Stop with: ${BASH_SOURCE[0]} stop"
            return
        fi
        running || break
        sleep 0.1
    done
    cat "$out_file" >&2
    stop >/dev/null
    die "the demo did not start"
}

stop() {
    if running; then
        local pid
        pid=$(cat "$pid_file")
        kill -INT "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
    # What is left if the process was killed: a dead mount, and its directory.
    if [ -d "$demo" ]; then
        if awk -v dir="$demo/mnt" '$2 == dir { found = 1 } END { exit !found }' /proc/mounts; then
            fusermount3 -uz "$demo/mnt"
        fi
        if [ -e "$demo/demo.env" ] || [ -d "$demo/mnt" ]; then
            rm -rf --one-file-system "$demo"
        fi
    fi
    rm -f "$pid_file" "$out_file"
    say "stopped; nothing is left"
}

case ${1:-start} in
    start) start ;;
    stop) stop ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac
