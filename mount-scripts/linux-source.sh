#!/usr/bin/env bash
# Measures what a source tree costs: unpacks Debian's kernel source into a volume on the embedded S3 server, compares it with its archive on
# a cold mount, and prints the kernel's requests by kind and the requests to the store.
#
#   linux-source.sh              fs, drivers/net and arch/arm of linux-source-6.1: 12,473 files, 197 MB
#   linux-source.sh --all        all of it: 1.2 GB
#
#   --memory SIZE                of the mount that reads (128MiB); the one that unpacks has 512MiB
#   --latency-ms NUMBER          added to each request of the store (0)
#   --profile NAME               cargo's profile (bench)
#   --tree DIR                   that source tree, in place of Debian's
#
# Debian's package goes into STRONGROOM_BENCH_DIR, target/bench by default (1.7 GB). Needs root for the mounts, and a Debian for the package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${STRONGROOM_BENCH_DIR:-$here/target/bench}
package=linux-source-6.1
parts=(fs drivers/net arch/arm)
options=(--memory 128MiB)
profile=bench
tree=

die() { printf 'linux-source.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '$d'; exit 0 ;;
        --all) parts=() ;;
        --memory | --latency-ms | --profile | --tree)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                --profile) profile=$2 ;;
                --tree) tree=$2 ;;
                *) options+=("$1" "$2") ;;
            esac
            shift ;;
        *) die "unknown option '$1': see linux-source.sh --help" ;;
    esac
    shift
done

if [ -z "$tree" ]; then
    tree=$work/$package
    if [ ! -d "$tree" ]; then
        command -v apt-get >/dev/null || die "this is no Debian: give a source tree with --tree"
        fetched=$work/$package.fetched
        rm -rf "$fetched"
        mkdir -p "$fetched"
        (cd "$fetched" && apt-get download -q "$package" && dpkg-deb -x "$package"_*.deb . && tar -xJf usr/src/$package.tar.xz)
        mv "$fetched/$package" "$tree"
        rm -rf "$fetched"
    fi
fi
[ -d "$tree" ] || die "there is no $tree"
cd "$here"
exec cargo bench --locked --profile "$profile" --bench operations -- "${options[@]}" tree "$(realpath "$tree")" ${parts[@]+"${parts[@]}"}
