#!/usr/bin/env python3
"""Draws docs/first-backup.svg: a terminal session with a first backup, run for this picture.

usage: picture.py [PROGRAM]     (default: target/release/strongroom)

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

REPO = Path(__file__).resolve().parent.parent
PICTURE = REPO / "docs" / "first-backup.svg"

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

FONT_PX, LINE_PX, CHAR_PX, MARGIN_PX = 13, 18, 7.83, 16
BACKGROUND, TEXT, PROMPT, TYPED = "#15191e", "#c9d1d9", "#7ee787", "#ffffff"


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


def run_session(program, home):
    """Runs all commands in `home`; returns pairs of a command and what it printed."""
    port = free_port()
    env = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "STRONGROOM_STATE_DIR": str(home / ".state"),
        "AWS_ACCESS_KEY_ID": "picture",
        "AWS_SECRET_ACCESS_KEY": os.urandom(16).hex(),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
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
    server = subprocess.Popen(
        [program, "serve", home / "store", "--listen", f"127.0.0.1:{port}"],
        env=env,
        stdout=subprocess.DEVNULL,
    )
    session = []
    try:
        wait_for(port)
        for command in COMMANDS:
            ended = subprocess.run(
                command, shell=True, cwd=home, env=env, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            if ended.returncode != 0:
                sys.exit(f"picture.py: {command}: {ended.stdout}")
            session.append((command, ended.stdout.replace(str(home), "~").rstrip("\n")))
    finally:
        subprocess.run(["fusermount3", "-uzq", home / "vault"], check=False)
        server.terminate()
        server.wait()
    return session


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
    if program.name.startswith("-"):
        print(__doc__.strip())
        return
    if not program.exists():
        sys.exit(f"picture.py: {program} is missing: cargo build --release, or name another")
    with tempfile.TemporaryDirectory(prefix="strongroom-picture-") as directory:
        session = run_session(program.resolve(), Path(directory))
    PICTURE.write_text(draw(session))
    print(f"drawn: {PICTURE}")


main()
