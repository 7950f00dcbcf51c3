#!/usr/bin/env bash
# Breaks the program on purpose, one patch of tests/mutants at a time, in a copy, and expects a test to notice: the one that the patch
# names in a line "test: ...", or the model test of write-back. Fails if a mutant survives. Takes a build for each: a minute or two,
# and one of all dependencies before the first.
#
#   mutants.sh [NAME...]  all of them, or those whose file names begin so
#   mutants.sh --check    nothing but this: does each patch still fit the source?
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --check)
        for patch in tests/mutants/*.patch; do
            git apply --check "$patch" || {
                printf 'mutants.sh: %s does not fit the source any more; make it anew\n' "$patch" >&2
                exit 1
            }
        done
        exit 0
        ;;
esac

patches=()
if [ $# -eq 0 ]; then set -- ''; fi
for name in "$@"; do
    found=(tests/mutants/"$name"*.patch)
    [ -e "${found[0]}" ] || { printf 'mutants.sh: there is no mutant %s: see tests/mutants\n' "$name" >&2; exit 2; }
    patches+=("${found[@]}")
done

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
# Not the target directory of the tree: cargo gives what it builds of the copy the same file names, and would take a mutant for fresh.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/mutants}
survived=0

model="--lib -E 'test(/model_tests::/)'"

run_test() {
    local -a chosen
    eval "chosen=($1)"
    (cd "$copy" && cargo nextest run --locked "${chosen[@]}" 2>&1)
}

if ! run_test "$model" >"$copy/output"; then
    cat "$copy/output"
    printf 'mutants.sh: the model test fails without a mutant\n' >&2
    exit 1
fi
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    chosen=$(sed -n 's/^test: //p' "$patch")
    (cd "$copy" && git apply "$OLDPWD/$patch")
    if run_test "${chosen:-$model}" >"$copy/output"; then
        printf '%-34s SURVIVED\n' "$name"
        survived=1
    elif grep -q '^error\(\[E\|: could not compile\)' "$copy/output"; then
        printf '%-34s does not compile\n' "$name"
        survived=1
    else
        why=$(grep -m1 -oE 'seed [0-9]+: .*' "$copy/output" || grep -m1 -oE 'seed [0-9]+.*' "$copy/output" ||
            grep -m1 -oE '(FAIL|panicked|attempt to).*' "$copy/output" || true)
        printf '%-34s caught: %s\n' "$name" "${why:0:120}"
    fi
    (cd "$copy" && git apply -R "$OLDPWD/$patch")
done
exit "$survived"
