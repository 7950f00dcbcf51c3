#!/usr/bin/env bash
# Runs everything that CI runs; installs what is missing (Debian). Prints a summary at the end and fails if anything did.
#
#   test.sh               format, lints, unit and integration tests, doc tests, the end-to-end suite, the hostile store, docs, scripts
#   test.sh --quick       without the end-to-end suite, the hostile store and the kills
#   test.sh --long        the long runs too: ignored tests in modules called `long`
#   test.sh --soak HOURS  nothing but this: programs work on a volume for so long (0.05 is three minutes) while mounts and servers die and
#                         the store is ill; log, samples and plot go to target/soak, or where STRONGROOM_SOAK_DIR says
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=normal
case ${1:-} in
    '') ;;
    --quick) mode=quick ;;
    --long) mode=long ;;
    --soak)
        mode=soak
        hours=${2:-}
        if ! [[ $hours =~ ^([0-9]+([.][0-9]+)?|[.][0-9]+)$ ]]; then
            printf "test.sh: --soak needs a number of hours, such as 2 or 0.05\n" >&2
            exit 2
        fi
        ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf "test.sh: unknown option '%s': see test.sh --help\n" "$1" >&2; exit 2 ;;
esac

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        printf 'test.sh: needs root for: %s\n' "$*" >&2
        exit 1
    fi
}

# An S3 server that is not ours, for the end-to-end suite: in a directory of its own below target.
install_moto() {
    local python=python3
    [ -x target/moto/bin/moto_server ] && return
    case $mode in quick | soak) return 0 ;; esac
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
        python=/usr/bin/python3
    fi
    "$python" -m venv target/moto
    target/moto/bin/pip install --quiet 'moto[server]==5.2.5'
}

# Prometheus' tool for rules: taken out of Debian's package, which would start a server when it is installed.
install_promtool() {
    PATH=$PATH:$PWD/target/prometheus/usr/bin
    if [ "$mode" = soak ] || command -v promtool >/dev/null; then return; fi
    printf 'fetching promtool\n'
    as_root apt-get update -qq
    rm -rf target/prometheus
    mkdir -p target/prometheus
    (cd target/prometheus && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
}

# What the long runs put a mount through that others wrote.
install_suites() {
    local missing=()
    command -v stress-ng >/dev/null || missing+=(stress-ng)
    # pjdfstest is linked with it.
    [ -e /usr/include/sys/acl.h ] || missing+=(libacl1-dev)
    if [ ${#missing[@]} -gt 0 ]; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    PATH=$PATH:$HOME/.cargo/bin
    command -v pjdfstest >/dev/null || cargo install --locked --quiet --version 0.2.2 pjdfstest
    install_fsx
}

install_fsx() {
    PATH=$PATH:$HOME/.cargo/bin
    command -v fsx >/dev/null || cargo install --locked --quiet --version 0.3.2 fsx
}

install_missing() {
    local missing=() pair
    # program:package
    for pair in cc:gcc make:make fusermount3:fuse3 restic:restic borg:borgbackup rsync:rsync getfattr:attr \
        getfacl:acl sqlite3:sqlite3 git:git shellcheck:shellcheck man:man-db openssl:openssl pgrep:procps python3:python3 \
        setcap:libcap2-bin; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    if [ ${#missing[@]} -gt 0 ]; then
        printf 'installing: %s\n' "${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    if ! command -v cargo >/dev/null; then
        printf 'test.sh: Rust 1.95 or newer is missing; install it from https://rustup.rs and run this again\n' >&2
        exit 1
    fi
    cargo nextest --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-nextest
    install_moto
    install_promtool
    case $mode in
        long) install_suites ;;
        soak) install_fsx ;;
    esac
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
}

summary=()
failed=0

# step NAME COMMAND...
step() {
    local name=$1 began=$SECONDS outcome=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || { outcome=FAILED failed=1; }
    summary+=("$(printf '%-8s %5d s  %s' "$outcome" $((SECONDS - began)) "$name")")
}

# A function that a step calls is not ended by a command that fails: `&&` does that.
# The fuzz targets are a workspace of their own, whose lock file has to follow our dependencies.
# shellcheck disable=SC2317  # called through step
scripts() {
    shellcheck -x mount-scripts/*.sh mount-scripts/*/*.sh mount-scripts/{mount,umount}.strongroom .ci/run &&
        mount-scripts/mutants.sh --check &&
        mount-scripts/layers.py &&
        cargo tree --locked --quiet --manifest-path tests/fuzz/Cargo.toml >/dev/null
}

# The Debian package, built, and tried in a bare Debian.
# shellcheck disable=SC2317  # called through step
package() {
    mount-scripts/package.sh target/package && mount-scripts/packaging/try.sh target/package/strongroom_*.deb
}

# The alert rules by Prometheus' own tool, and the dashboard.
# shellcheck disable=SC2317  # called through step
monitoring() {
    promtool check rules mount-scripts/monitoring/strongroom.rules.yml &&
        promtool test rules mount-scripts/monitoring/strongroom.rules.test.yml &&
        mount-scripts/monitoring/check.py
}

# The library's own tests. No mount's memory is measured there, so they are built without optimisation, which is faster.
# shellcheck disable=SC2317  # called through step
unit_tests() {
    CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo nextest run --locked --no-fail-fast --lib "$@"
}

# The feature `demo` left out: everything compiles, and in the long suite the library's own tests pass.
# shellcheck disable=SC2317  # called through step
without_demo() {
    cargo check --locked --all-targets --no-default-features || return 1
    [ "$mode" != long ] || unit_tests --no-default-features
}

# Code in doc comments, if there is any: without, rustdoc would read the whole crate for nothing.
# shellcheck disable=SC2317  # called through step
doc_tests() {
    find src -name '*.rs' -exec awk '
        FNR == 1 { inside = 0 }
        /^ *\/\/[\/!] ```/ { if (!inside && !/```(text|sh|json|console|ignore)/) found = 1; inside = !inside }
        END { exit !found }' {} + || return 0
    cargo test --locked --doc --quiet
}

# Mounts and processes of Strongroom on this machine.
running() {
    grep ' fuse\.strongroom ' /proc/mounts | cut -d' ' -f1,2 || true
    pgrep -a -x strongroom || true
}

# Nothing may be left behind that was not there before. What another program had running may have ended meanwhile.
# shellcheck disable=SC2317  # called through step
leftovers() {
    local left
    left=$(comm -13 <(printf '%s\n' "$running_before" | sort) <(running | sort))
    if [ -n "$left" ]; then
        printf 'left behind:\n%s\n' "$left"
        return 1
    fi
}

install_missing
# A first build leaves nothing for a next one, and has no tables of lines: that makes it faster, and smaller by some GiB.
if ! [ -d "${CARGO_TARGET_DIR:-target}/debug/incremental" ]; then
    export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}" CARGO_PROFILE_DEV_DEBUG="${CARGO_PROFILE_DEV_DEBUG:-false}"
fi
running_before=$(running)
if [ "$mode" = soak ]; then
    export STRONGROOM_SOAK_HOURS=$hours
    step "soak of $hours hours" cargo nextest run --locked --test endurance --run-ignored only --no-capture -E 'test(/^soak::long::/)'
else
    step 'format' cargo fmt --check
    step 'lints' cargo clippy --all-targets --locked -- -D warnings
    step 'without the embedded server' without_demo
    step 'scripts' scripts
    step 'monitoring' monitoring
    step 'docs' mount-scripts/check-docs.sh
    step 'unit tests' unit_tests
    # All but the library's own.
    tests=(--bins --test '*')
    if [ "$mode" = quick ]; then
        step 'integration tests' cargo nextest run --locked --no-fail-fast "${tests[@]}" -E 'not binary(e2e) and not binary(hostile) and not binary(endurance)'
    else
        step 'integration and end-to-end tests' cargo nextest run --locked --no-fail-fast "${tests[@]}"
    fi
    step 'doc tests' doc_tests
    if [ "$mode" = long ]; then
        step 'dependencies' mount-scripts/package.sh --check
        step 'systemd' mount-scripts/systemd/try.sh
        step 'package' package
        step 'long runs' cargo nextest run --locked --run-ignored only --no-tests=pass -E 'test(/(^|::)long::/)'
    fi
fi
step 'nothing left behind' leftovers

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
if [ "$failed" -eq 0 ]; then printf 'all passed (%s)\n' "$mode"; else printf 'FAILED\n'; fi
exit "$failed"
