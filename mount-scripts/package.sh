#!/usr/bin/env bash
# Builds what is shipped, for this machine's architecture, into target/package (or DIR): a Debian package, a tarball for any Linux with
# glibc, the program's debug tables, a list of all dependencies (SBOM, CycloneDX), and SHA256SUMS. Says which glibc the program needs:
# built on Debian 12 it is 2.34, which Debian 12, Ubuntu 22.04 and Red Hat 9 have.
#
#   package.sh [DIR]     takes a release build, some twenty minutes on two cores
#   package.sh --check   nothing but this: licences, sources, versions and known faults (advisories) of all dependencies
#
# Installs what it needs with cargo: cargo-deb, cargo-auditable and cargo-cyclonedx, or cargo-deny. STRONGROOM_PROFILE=demo builds
# faster, for a trial. packaging/try.sh installs, uses and removes the Debian package in a bare Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'package.sh: %s\n' "$*" >&2; exit 1; }

check=
case ${1:-} in
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --check) check=1; shift ;;
    -*) printf "package.sh: unknown option '%s': see package.sh --help\n" "$1" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { printf 'package.sh: one directory at most: see package.sh --help\n' >&2; exit 2; }

command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
command -v cargo >/dev/null || die 'Rust 1.95 or newer is missing; install it from https://rustup.rs and run this again'

tool() { command -v "$1" >/dev/null || { printf 'installing %s\n' "$1"; cargo install --locked --quiet "$1"; }; }

if [ -n "$check" ]; then
    tool cargo-deny
    # The advisories come from a repository of their own. Where that cannot be reached, the rest is checked, and it says so.
    checks=(bans licenses sources)
    if cargo deny --log-level error fetch db >/dev/null 2>&1; then
        checks+=(advisories)
    else
        printf 'package.sh: advisories are not checked: their database cannot be fetched\n' >&2
    fi
    exec cargo deny --log-level error --locked --config mount-scripts/packaging/deny.toml check "${checks[@]}"
fi

out=$(realpath -m "${1:-target/package}")
profile=${STRONGROOM_PROFILE:-release}
target=${CARGO_TARGET_DIR:-$PWD/target}
version=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["packages"][0]["version"])')
machine=$(uname -m)
name=strongroom-$version-$machine-linux
staging=$target/packaging
tools=(cargo-deb cargo-auditable cargo-cyclonedx)
for each in "${tools[@]}"; do tool "$each"; done

rm -rf "$staging"
mkdir -p "$staging/man" "$staging/completions" "$out"
# What an earlier run left would be in the sums.
rm -f "$out"/strongroom[-_]* "$out/SHA256SUMS"

# The list of dependencies is in the program too, where `cargo audit bin` finds it.
cargo auditable build --locked --profile "$profile" --bin strongroom
built=$target/$profile/strongroom
cp "$built" "$out/$name.debug"
objcopy --only-keep-debug --compress-debug-sections "$out/$name.debug"
objcopy --strip-all --add-gnu-debuglink="$out/$name.debug" "$built" "$staging/strongroom"

"$staging/strongroom" man "$staging/man"
gzip -9n "$staging"/man/*
for shell in bash zsh fish; do "$staging/strongroom" completions $shell >"$staging/completions/strongroom.$shell"; done
# The package's program is where Debian has programs.
sed 's,/usr/local/bin/,/usr/bin/,' mount-scripts/systemd/strongroom@.service >"$staging/strongroom@.service"
cp mount-scripts/mount.strongroom mount-scripts/umount.strongroom "$staging/"

# cargo-deb takes the files that [package.metadata.deb] in Cargo.toml names, from target/packaging.
cargo deb --locked --no-build --no-strip --output "$out/" >/dev/null
cargo cyclonedx --format json --override-filename "strongroom-$version.cdx" >/dev/null
mv "strongroom-$version.cdx.json" "$out/"

dir=$staging/$name
mkdir "$dir"
cp -r "$staging/strongroom" "$staging/man" "$staging/completions" mount-scripts/mount.strongroom mount-scripts/umount.strongroom \
    mount-scripts/systemd/strongroom@.service mount-scripts/examples README.md LICENSE docs "$dir/"
# The same files give the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C "$staging" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

(cd "$out" && sha256sum strongroom[-_]* >SHA256SUMS)
ls -l "$out"
printf 'the program needs glibc %s\n' "$(objdump -T "$staging/strongroom" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1 | cut -d_ -f2)"
