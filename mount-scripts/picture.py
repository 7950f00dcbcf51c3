#!/usr/bin/env python3
"""Draws docs/first-backup.svg, a terminal session with a first backup, and docs/top.svg, `strongroom top` during a backup: both run for the
pictures.

usage: picture.py [PROGRAM [first-backup|top]]     (default: target/release/strongroom, and both)

Needs restic and fuse3. The store is the embedded server on loopback. All of it runs in a temporary
directory, which goes at the end. What is drawn is what the commands printed.
"""

import html
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from terminal import BACKGROUND, CHAR_PX, FONT_PX, LINE_PX, MARGIN_PX, TEXT, Terminal

REPO = Path(__file__).resolve().parent.parent
PICTURE, PICTURE_OF_TOP = REPO / "docs" / "first-backup.svg", REPO / "docs" / "top.svg"

URL = "s3://backups/laptop"
PHOTOS, PHOTO_BYTES = 12, 4_000_000

# As a reader would type them.
COMMANDS = [
    f"strongroom init {URL} --create-bucket --passphrase-file pass --recovery-key-file recovery",
    f"strongroom mount {URL} vault --passphrase-file pass",
    "restic -r vault/restic init --quiet && restic -r vault/restic backup photos",
    "strongroom status vault | head -7",
    "strongroom umount vault",
    f"strongroom fsck {URL} --passphrase-file pass --data",
]

PROMPT, TYPED = "#7ee787", "#ffffff"

# `top` watches for so long before it is drawn, so that its graphs have a past.
WATCHED_S = 45


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("picture.py: the server did not start")


class Home:
    """A directory with a store, photos and a passphrase, and the environment of programs in it."""

    def __init__(self, program, home, endpoint):
        self.program, self.home = program, home
        self.env = os.environ | {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "STRONGROOM_STATE_DIR": str(home / ".state"),
            "AWS_ACCESS_KEY_ID": "picture",
            "AWS_SECRET_ACCESS_KEY": os.urandom(16).hex(),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{endpoint}",
            "RESTIC_PASSWORD": os.urandom(16).hex(),
            "COLUMNS": "100",
        }
        (home / "vault").mkdir()
        (home / "photos").mkdir()
        for number in range(PHOTOS):
            (home / "photos" / f"{number}.jpg").write_bytes(os.urandom(PHOTO_BYTES))
        passphrase = home / "pass"
        passphrase.touch(mode=0o600)
        passphrase.write_text(os.urandom(32).hex())
        self.server = subprocess.Popen(
            [program, "serve", home / "store", "--listen", f"127.0.0.1:{endpoint}"],
            env=self.env,
            stdout=subprocess.DEVNULL,
        )

    def run(self, command):
        """What a command prints; it must succeed."""
        ended = subprocess.run(
            command, shell=True, cwd=self.home, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        if ended.returncode != 0:
            sys.exit(f"picture.py: {command}: {ended.stdout}")
        return ended.stdout.replace(str(self.home), "~").rstrip("\n")

    def end(self):
        subprocess.run(["fusermount3", "-uzq", self.home / "vault"], check=False)
        self.server.terminate()
        self.server.wait()


def in_a_home(program, work):
    """Does `work` in a fresh home, which goes at the end."""
    with tempfile.TemporaryDirectory(prefix="strongroom-picture-") as directory:
        port = free_port()
        home = Home(program, Path(directory), port)
        try:
            wait_for(port)
            return work(home)
        finally:
            home.end()


def run_session(home):
    """Runs all commands; returns pairs of a command and what it printed."""
    return [(command, home.run(command)) for command in COMMANDS]


def watch_top(home):
    """`top` while restic backs up and files are read again; returns its screen as SVG."""
    for command in COMMANDS[:2]:
        home.run(command)
    work = (
        "restic -r vault/restic init --quiet;"
        " while [ ! -e stop ]; do cp photos/*.jpg vault/; sync -f vault; restic -r vault/restic backup photos --force --quiet;"
        " restic -r vault/restic check --read-data --no-cache --quiet; rm -rf vault/*.jpg;"
        " for photo in photos/*; do head -c 4000000 /dev/urandom >$photo; done; done"
    )
    worker = subprocess.Popen(
        work, shell=True, cwd=home.home, env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    top = Terminal([home.program, "top", "vault"], 100, 30, cwd=home.home, env=home.env | {"TERM": "xterm-256color"})
    try:
        top.watch(WATCHED_S)
        # A moment at which something is written.
        top.watch(60, lambda text: "fs write" in text)
        picture = top.svg("strongroom top during a backup: throughput, memory, latencies, what waits, busiest files")
        shown = top.text()
    finally:
        (home.home / "stop").touch()
        top.end("q")
        worker.wait()
    home.run(COMMANDS[4])
    if "Throughput" not in shown:
        sys.exit(f"picture.py: top did not show a mount:\n{shown}")
    print(shown)
    return picture


def draw(session):
    """The session as SVG."""
    rows = []
    for command, printed in session:
        rows.append(
            f'<tspan fill="{PROMPT}">$ </tspan><tspan fill="{TYPED}">{html.escape(command)}</tspan>'
        )
        rows += [html.escape(line) for line in printed.splitlines() if line.strip()]
        rows.append("")
    rows.pop()
    longest = max(
        [len(command) + 2 for command, _ in session]
        + [len(line) for _, printed in session for line in printed.splitlines()]
    )
    width = round(longest * CHAR_PX + 2 * MARGIN_PX)
    height = len(rows) * LINE_PX + 2 * MARGIN_PX
    lines = [
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX + FONT_PX + row * LINE_PX}">{text}</text>'
        for row, text in enumerate(rows)
        if text
    ]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="A terminal: a volume is made, mounted, backed up to, unmounted and checked">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<g fill="{TEXT}" font-family="ui-monospace, Menlo, Consolas, monospace"'
        f' font-size="{FONT_PX}" xml:space="preserve">',
        *lines,
        "</g>",
        "</svg>",
        "",
    ])


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else REPO / "target/release/strongroom")
    which = sys.argv[2:] or ["first-backup", "top"]
    if program.name.startswith("-") or not set(which) <= {"first-backup", "top"}:
        print(__doc__.strip())
        return
    if not program.exists():
        sys.exit(f"picture.py: {program} is missing: cargo build --release, or name another")
    program = program.resolve()
    if "first-backup" in which:
        PICTURE.write_text(draw(in_a_home(program, run_session)))
        print(f"drawn: {PICTURE}")
    if "top" in which:
        PICTURE_OF_TOP.write_text(in_a_home(program, watch_top))
        print(f"drawn: {PICTURE_OF_TOP}")


main()
