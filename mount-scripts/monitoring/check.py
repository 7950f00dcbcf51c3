#!/usr/bin/env python3
"""Checks the dashboard and the alert rules against the metrics that the program exports.

usage: check.py [SCRAPE]

Without SCRAPE the metrics are those of the table in docs/operations.md, "Metrics"; with it, those of a file with the answer of a mount.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPERATIONS = HERE.parent.parent / "docs" / "operations.md"
DASHBOARD, RULES = HERE / "dashboard.json", HERE / "strongroom.rules.yml"

# The names of the samples of a family, by the type of the family.
SUFFIXES = {"gauge": [""], "counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_sum", "_count"]}

NAME = re.compile(r"\bstrongroom_[a-z0-9_]+")

faults = []


def complain(text):
    faults.append(text)


def documented():
    """The samples of the families in the table of the documentation."""
    rows = re.findall(r"^\| `(strongroom_\w+)` \| (\w+) \|", OPERATIONS.read_text(), re.MULTILINE)
    return {name + suffix for name, kind in rows for suffix in SUFFIXES[kind]}


def scraped(text):
    """The samples of the families that a scrape describes; a histogram may have none yet."""
    rows = re.findall(r"^# TYPE (strongroom_\w+) (\w+)$", text, re.MULTILINE)
    return {name + suffix for name, kind in rows for suffix in SUFFIXES[kind]}


def check_names(where, expression, known):
    for name in NAME.findall(expression):
        if name not in known:
            complain(f"{where}: the program exports no {name}")


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def check_dashboard(known):
    dashboard = json.loads(DASHBOARD.read_text())
    ids, queries = set(), 0
    for panel in panels(dashboard):
        where = f"dashboard.json, panel {panel.get('id')}"
        if panel.get("id") in ids or not isinstance(panel.get("id"), int):
            complain(f"{where}: its id is not its own")
        ids.add(panel.get("id"))
        if not panel.get("title"):
            complain(f"{where}: it has no title")
        if panel["type"] == "row":
            continue
        if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
            complain(f"{where}: it has no unit")
        if not panel.get("targets"):
            complain(f"{where}: it asks for nothing")
        letters = [target["refId"] for target in panel.get("targets", [])]
        if len(letters) != len(set(letters)):
            complain(f"{where}: two queries have one letter")
        for target in panel.get("targets", []):
            check_names(where, target["expr"], known)
            if not NAME.search(target["expr"]):
                complain(f"{where}: a query names no metric of ours")
            queries += 1
    for variable in dashboard["templating"]["list"]:
        check_names(f"dashboard.json, variable {variable['name']}", variable["query"], known)
    return queries


def check_rules(known):
    # promtool checks the form. The names are found without a parser of YAML, which Python has not.
    rules = RULES.read_text().split("- alert: ")[1:]
    page = OPERATIONS.read_text()
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    for rule in rules:
        name = rule.split()[0]
        check_names(f"{RULES.name}, {name}", rule.split("labels:")[0], known)
        for field in ("severity:", "summary:", "runbook:"):
            if field not in rule:
                complain(f"{RULES.name}, {name}: it has no {field[:-1]}")
        for anchor in re.findall(r"runbook: docs/operations\.md#(\S+)", rule):
            if anchor not in anchors:
                complain(f"{RULES.name}, {name}: docs/operations.md has no section '{anchor}'")
        if f"| `{name}` |" not in page:
            complain(f"docs/operations.md: the table of alerts has no {name}")
    for name in re.findall(r"^\| `(Strongroom\w+)` \|", page, re.MULTILINE):
        if not any(rule.split()[0] == name for rule in rules):
            complain(f"docs/operations.md: there is no alert {name}")
    return len(rules)


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) == 2 else 2)
    known = scraped(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else documented()
    if not known:
        sys.exit("check.py: there is no family of metrics to compare with")
    queries, rules = check_dashboard(known), check_rules(known)
    for fault in faults:
        print(f"monitoring: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{queries} queries and {rules} alerts, all about metrics that the program exports")


main()
