#!/usr/bin/env bash
# Fuzzes what reads bytes from outside: each target in turn, one at a time, and prints what came of it.
#
#   fuzz.sh SECONDS [TARGET]   each target, or the one that is named, for so long
#   fuzz.sh --minimise         keeps of the corpus only what reaches code that nothing else there reaches
#
# Installs cargo-fuzz if it is missing; needs a C++ compiler for libFuzzer, and no nightly toolchain. What a
# target fails with is left in tests/fuzz/artifacts; once it is mended, it belongs into the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit "$1"; }
case ${1:-} in
    -h | --help) usage 0 ;;
    --minimise) seconds=0 ;;
    '' | *[!0-9]*) usage 2 >&2 ;;
    *) seconds=$1 ;;
esac
# An input is at most as long as the targets look at.
readonly INPUT_LEN_MAX=16384

fuzz() { cargo fuzz "$1" --fuzz-dir tests/fuzz --sanitizer none "${@:2}"; }

command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
[ -z "${2:-}" ] || targets=("$2")
fuzz build

failed=0
for target in "${targets[@]}"; do
    corpus=tests/fuzz/corpus/$target
    if [ "$seconds" -eq 0 ]; then
        fuzz cmin "$target" "$corpus" >/dev/null 2>&1
        printf '%-14s %5d inputs, %s\n' "$target" "$(find "$corpus" -type f | wc -l)" "$(du -sh "$corpus" | cut -f1)"
        continue
    fi
    # What is new goes elsewhere, so that the corpus in the repository changes only when it is minimised.
    found=tests/fuzz/target/found/$target
    mkdir -p "$found"
    log=tests/fuzz/target/$target.log
    outcome=ok
    fuzz run "$target" "$found" "$corpus" -- -max_total_time="$seconds" -max_len="$INPUT_LEN_MAX" -timeout=20 \
        -print_final_stats=1 >"$log" 2>&1 || { outcome=FAILED failed=1; }
    printf '%-14s %-7s %10s executions, %s\n' "$target" "$outcome" \
        "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" \
        "$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)"
    [ "$outcome" = ok ] || tail -n 30 "$log"
done
exit "$failed"
