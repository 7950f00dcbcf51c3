#!/usr/bin/env python3
"""Fails if an import in src runs upward between modules, or in a circle between files of one folder.

usage: layers.py

The order of the modules is that of docs/architecture.md, The house. Tests inside of modules may
import anything.
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"

# A module may import what stands in a lower row. Those of one row know nothing of each other.
ROWS = [
    ["main", "fuzzing"],
    ["cli"],
    ["session"],
    ["fuse"],
    ["fs", "check"],
    ["data"],
    ["meta"],
    ["seal"],
    ["store", "server"],
    ["budget", "disk", "record"],
    ["telemetry", "allocator"],
    ["proc"],
    ["limits", "clock", "byte_lru"],
]
ROW = {module: row for row, modules in enumerate(ROWS) for module in modules}

# The demo starts the embedded server beside the mount, in one process.
ALLOWED = {("cli", "server")}


def code_of(file):
    """The file without comments, strings and what is only compiled for tests."""
    text = re.sub(r"//[^\n]*", "", file.read_text())
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    return re.split(r"#\[cfg\((?:any\(fuzzing, )?(?:all\()?test", text)[0]


def is_test(file):
    return any("test" in part or part in {"fuzz.rs", "vectors.rs", "simulated"} for part in file.parts)


def expanded(text):
    """`use a::{b, c::{d}};` as `a::b a::c::d`, and all other paths as they are."""
    paths = re.findall(r"\b(?:crate|super|self)(?:::\w+)+", text)
    for statement in re.findall(r"\buse ([^;]+);", text):
        stack, path = [], ""
        for token in re.findall(r"\w+|::|[{},*]", statement):
            if token == "{":
                stack.append(path)
            elif token in {",", "}"}:
                paths.append(path)
                path = stack[-1] if stack and token == "," else ""
                if token == "}" and stack:
                    stack.pop()
            else:
                path += token
        paths.append(path)
    return {path.rstrip(":*") for path in paths if path}


def module_of(file):
    """The file's path as a module: parts below the crate."""
    parts = list(file.relative_to(SRC).with_suffix("").parts)
    return parts[:-1] if parts[-1] in {"mod", "lib", "main"} and len(parts) > 1 else parts


def absolute(path, module, is_folder):
    parts = path.split("::")
    at = list(module)
    if parts[0] == "crate":
        return parts[1:]
    if parts[0] == "self":
        return at + parts[1:]
    if parts[0] != "super":
        return None
    while parts and parts[0] == "super":
        at, parts = at[:-1], parts[1:]
    return at + parts


def circle(edges):
    """One circle in the graph, or None."""
    state, trail = {}, []

    def walk(node):
        state[node] = "under way"
        trail.append(node)
        for other in sorted(edges.get(node, ())):
            if state.get(other) == "under way":
                return trail[trail.index(other):] + [other]
            if other not in state and (found := walk(other)):
                return found
        trail.pop()
        state[node] = "done"
        return None

    return next((found for node in sorted(edges) if node not in state and (found := walk(node))), None)


def main():
    if sys.argv[1:]:
        sys.exit(__doc__.strip())
    complaints, siblings = [], {}
    for file in sorted(SRC.rglob("*.rs")):
        if is_test(file.relative_to(SRC)):
            continue
        module = module_of(file)
        is_folder = file.name == "mod.rs"
        for path in expanded(code_of(file)):
            target = absolute(path, module, is_folder)
            if not target or target[0] not in ROW or module[0] not in ROW:
                continue
            above = ROW[target[0]] < ROW[module[0]]
            beside = ROW[target[0]] == ROW[module[0]] and target[0] != module[0]
            if (above or beside) and (module[0], target[0]) not in ALLOWED:
                complaints.append(f"src/{file.relative_to(SRC)} imports {'::'.join(target)}, which is not below it")
            # Files of one folder, the folder's own `mod.rs` left out: it wires them.
            folder = tuple(module[:-1])
            if not is_folder and target[: len(folder)] == list(folder) and len(target) > len(folder):
                sibling = target[len(folder)]
                here = SRC.joinpath(*folder)
                if sibling != module[-1] and (here / f"{sibling}.rs").exists():
                    siblings.setdefault(folder, {}).setdefault(module[-1], set()).add(sibling)
    for folder, edges in sorted(siblings.items()):
        if found := circle(edges):
            complaints.append(f"src/{'/'.join(folder)}: a circle of imports: {' > '.join(found)}")
    for line in sorted(set(complaints)):
        print(f"layers: {line}", file=sys.stderr)
    sys.exit(1 if complaints else 0)


main()
