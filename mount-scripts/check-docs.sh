#!/usr/bin/env bash
# Checks the documentation against the code: links lead somewhere, files and tests that are named exist, numbers are those of the code, comments are not wider than a page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() { printf 'docs: %s\n' "$*" >&2; failed=1; }

shopt -s nullglob
for page in README.md docs/*.md; do
    # Relative links: ](path) or ](path#anchor)
    while IFS= read -r link; do
        target=${link%%#*}
        [ -z "$target" ] || [ -e "$(dirname "$page")/$target" ] || complain "$page: the link $link leads nowhere"
    done < <(grep -oE '\]\([^)]+\)' "$page" | sed -E 's/^\]\(//; s/\)$//' | grep -vE '^[a-z]+:' || true)
    # Files of the repository, named in backticks
    # shellcheck disable=SC2016
    while IFS= read -r path; do
        [ -e "$path" ] || complain "$page: there is no $path"
    done < <(grep -oE '`(src|tests|mount-scripts|docs|benches)/[A-Za-z0-9_./@-]+`' "$page" | tr -d '`' || true)
done

# shellcheck disable=SC2016
# Each test that semantics.md names (three words or more, joined by underscores) exists.
if [ -e docs/semantics.md ]; then
    while IFS= read -r name; do
        grep -rqE "fn $name\b" src tests || complain "docs/semantics.md: there is no test $name"
    done < <(grep -oE '`[a-z0-9]+(_[a-z0-9]+){3,}`' docs/semantics.md | tr -d '`' | sort -u || true)
fi

# Numbers in pages that are constants in the code: docs/constants.tsv says which words stand for
# which constant. Both must be there as it says.
{
    read -r _
    while IFS=$'\t' read -r page words constant value; do
        tr -s '[:space:]' ' ' <"docs/$page" | grep -qF -- "$words" ||
            complain "docs/constants.tsv: docs/$page does not say '$words' ($constant)"
        grep -rhE "const $constant: " src | grep -qF -- " = $value;" ||
            complain "docs/constants.tsv: $constant is not $value any more: docs/$page says '$words'"
    done
} <docs/constants.tsv

# Words that the list of terms in docs/architecture.md has replaced.
retired='begin_take|everything_taken|take_in|take_in_line|IncomingWrite|nameless inodes?|nameless files?'
retired+='|flush lane|fencing noted|window table|pack neighbours?'
while IFS= read -r line; do complain "a word that the list of terms has replaced: $line"; done < <(
    git grep -nwiE "$retired" -- 'src' 'tests/*.rs' 'benches' 'docs/*.md' README.md || true
)

# A comment says what something is: it begins with its subject.
while IFS= read -r line; do complain "a comment without a subject: $line"; done < <(
    git grep -nE '//[/!]? (What|Who|Whoever|Whatever) ' -- '*.rs' | grep -v '?' || true
)

mount-scripts/map.py --check || failed=1

# Comment lines end at 100 columns; a row of a table may be longer.
while IFS= read -r line; do complain "wider than 100 columns: $line"; done < <(
    git ls-files '*.rs' | xargs awk 'length > 100 && /^ *\/\// && !/ \| / {print FILENAME ":" FNR}'
)
exit $failed
