#!/usr/bin/env python3
"""Writes docs/map.md: each source file and the first sentence of its head.

usage: map.py            write it
       map.py --check    end with 1 if it would change
"""

import re
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / "docs" / "map.md"
BEGIN = "<!-- made by mount-scripts/map.py from here on -->"
ROOTS = ["src", "tests", "benches"]
# Inputs of tests, not code.
LEFT_OUT = {"tests/fuzz/corpus", "tests/fuzz/target", "tests/fuzz/targets", "tests/fixtures", "tests/mutants"}


def first_sentence(file):
    """What the file's head says first; links become plain words."""
    words = []
    for line in file.read_text().splitlines():
        if not line.startswith("//!"):
            if words or (line.strip() and not line.startswith("#![")):
                break
            continue
        text = line[3:].strip()
        if not text:
            break
        words.append(text)
    head = re.sub(r"\[`?([^]`]+)`?\](\([^)]*\))?", r"`\1`", " ".join(words))
    head = head.replace("``", "`").replace("|", "\\|")
    sentence = re.match(r"(.+?[.:])(?= [A-Z`(*-]|$)", head)
    return (sentence.group(1) if sentence else head).rstrip(":").strip()


def rows(directory):
    """Rows of a directory and all below it: files first, `mod.rs` and `main.rs` before the others."""
    entries = sorted(directory.iterdir(), key=lambda entry: entry.name)
    files = [entry for entry in entries if entry.suffix == ".rs"]
    files.sort(key=lambda file: (file.name not in {"mod.rs", "main.rs", "lib.rs"}, file.name))
    for file in files:
        path = file.relative_to(REPO)
        yield f"| `{path}` | {first_sentence(file)} |"
    for entry in entries:
        if entry.is_dir() and str(entry.relative_to(REPO)) not in LEFT_OUT:
            yield from rows(entry)


def tables():
    for root in ROOTS:
        yield f"\n## {root}\n\n| file | about |\n|---|---|"
        yield from rows(REPO / root)


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__.strip())
    page = PAGE.read_text() if PAGE.exists() else "# Map\n\n"
    head = page.split(BEGIN)[0]
    made = head + BEGIN + "\n" + "\n".join(tables()) + "\n"
    if not sys.argv[1:]:
        PAGE.write_text(made)
    elif made != page:
        sys.exit("docs/map.md is not what the files say: run mount-scripts/map.py")


main()
