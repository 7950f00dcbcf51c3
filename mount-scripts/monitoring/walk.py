"""The walk of walk.sh: a store, a mount, its work, an outage, and Prometheus, which looks at it."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import plot

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent.parent / "docs" / "monitoring.svg"

URL = "s3://backups/laptop"
MINUTES_MIN, MINUTES_UNSCALED = 8, 40
# Parts of the walk: work, outage, work.
OUTAGE_BEGINS, OUTAGE_ENDS = 0.3, 0.7
SCRAPE_S = 5

# These must fire in the outage, and clear after it.
EXPECTED = {"StrongroomStoreUnreachable", "StrongroomHeldUp", "StrongroomDurabilityLagHigh", "StrongroomLeaseOld"}
GONE = "StrongroomMountGone"

# Panels of the dashboard that are drawn.
DRAWN = [
    "Requests of the kernel",
    "Attempts of requests to the store",
    "Attempts that did not succeed, by outcome",
    "Bytes from and to the store",
    "Store: 1 in 100 is slower (p99)",
    "Kernel: 1 in 100 is slower (p99)",
    "Resident and its limit",
    "Reserved by owner",
    "Contents that are not in the store",
    "Age of the oldest change that is not in the store",
    "Frames found in a cache",
    "Age of the lease (it lasts 90 s)",
]


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, seconds, condition):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"walk.py: not within {seconds:.0f} s: {what}")
        time.sleep(0.2)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def scaled_rules(text, factor):
    """The rules with shorter `for:`."""

    def shorter(match):
        seconds = int(match[2]) * {"s": 1, "m": 60}[match[3]]
        return f"{match[1]}{max(round(seconds * factor), 1)}s"

    return re.sub(r"^( +for: )(\d+)([sm])$", shorter, text, flags=re.MULTILINE)


class Walk:
    def __init__(self, minutes, program, home):
        self.seconds = minutes * 60
        self.factor = min(minutes / MINUTES_UNSCALED, 1)
        self.program, self.home, self.vault = program, home, home / "vault"
        self.store_port, self.metrics_port, self.prometheus_port = free_port(), free_port(), free_port()
        self.server = self.prometheus = None
        self.stop = threading.Event()
        self.workers, self.children = [], set()
        self.done = {"backups": 0, "copies": 0, "reads": 0}
        self.history = {}
        self.env = os.environ | {
            "HOME": str(home),
            "STRONGROOM_STATE_DIR": str(home / "state"),
            "AWS_ACCESS_KEY_ID": "walk",
            "AWS_SECRET_ACCESS_KEY": os.urandom(16).hex(),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.store_port}",
            "RESTIC_PASSWORD": os.urandom(16).hex(),
            "RESTIC_CACHE_DIR": str(home / "restic-cache"),
        }

    # What runs.

    def start_store(self):
        command = [self.program, "serve", self.home / "store", "--listen", f"127.0.0.1:{self.store_port}"]
        self.server = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the store answers", 60, lambda: answers(self.store_port))

    def stop_store(self):
        self.server.kill()
        self.server.wait()

    def strongroom(self, *args):
        ended = subprocess.run([self.program, *args], env=self.env, cwd=self.home, text=True, capture_output=True)
        if ended.returncode != 0:
            raise SystemExit(f"walk.py: strongroom {args[0]}: {ended.stderr}")

    def mount(self):
        self.strongroom(
            "mount", URL, "vault", "--passphrase-file", "pass", "--memory", "128MiB", "--disk-cache", "off",
            "--metrics-listen", f"127.0.0.1:{self.metrics_port}",
        )

    def start_prometheus(self):
        rules = scaled_rules((HERE / "strongroom.rules.yml").read_text(), self.factor)
        (self.home / "rules.yml").write_text(rules)
        (self.home / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {SCRAPE_S}s, evaluation_interval: {SCRAPE_S}s}}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            "  - job_name: strongroom\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{self.metrics_port}']}}]\n"
        )
        command = [
            "prometheus", f"--config.file={self.home}/prometheus.yml", f"--storage.tsdb.path={self.home}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}", "--log.level=error",
        ]
        self.prometheus = subprocess.Popen(command, cwd=self.home, stdout=subprocess.DEVNULL)
        wait_for("Prometheus answers", 60, lambda: answers(self.prometheus_port))

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    # The work.

    def run(self, *command):
        """A program of the load. It hangs in the outage, and is waited for."""
        child = subprocess.Popen(
            command, env=self.env, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.children.add(child)
        code = child.wait()
        self.children.discard(child)
        return code == 0

    def work(self, name, once):
        def again():
            while not self.stop.is_set():
                if once():
                    self.done[name] += 1
                self.stop.wait(2)

        worker = threading.Thread(target=again, daemon=True)
        worker.start()
        self.workers.append(worker)

    def change_files(self):
        for _ in range(20):
            name = self.home / "photos" / f"{random.randrange(200)}.jpg"
            name.write_bytes(os.urandom(random.randrange(1, 400_000)))

    def backup(self):
        self.change_files()
        return self.run("restic", "-q", "-r", "vault/restic", "backup", "photos")

    def copy(self):
        return self.run("rsync", "-a", "--delete", "photos/", "vault/copy/")

    def read(self):
        try:
            with open(self.vault / "large.bin", "rb", buffering=0) as file:
                for _ in range(30):
                    offset = random.randrange(60 << 20)
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    file.seek(offset)
                    file.read(256 << 10)
            return True
        except OSError:
            return False

    def load(self):
        (self.home / "photos").mkdir()
        for number in range(200):
            (self.home / "photos" / f"{number}.jpg").write_bytes(os.urandom(random.randrange(1, 400_000)))
        (self.vault / "large.bin").write_bytes(os.urandom(64 << 20))
        if not self.run("restic", "-q", "-r", "vault/restic", "init"):
            raise SystemExit("walk.py: restic init failed")
        self.work("backups", self.backup)
        self.work("copies", self.copy)
        self.work("reads", self.read)

    # What Prometheus says.

    def look(self, until, began):
        """Notes each alert that begins or ceases to fire, until then."""
        while time.monotonic() < until:
            firing = {
                alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"
            }
            now = time.monotonic() - began
            for name in firing:
                spans = self.history.setdefault(name, [])
                if not spans or spans[-1][1] is not None:
                    spans.append([now, None])
                    say(f"{name} fires")
            for name, spans in self.history.items():
                if name not in firing and spans[-1][1] is None:
                    spans[-1][1] = now
                    say(f"{name} has cleared")
            time.sleep(1)
            if until == float("inf"):
                return

    def look_until(self, what, seconds, began, condition):
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise SystemExit(f"walk.py: not within {seconds:.0f} s: {what}")
            self.look(float("inf"), began)

    def is_firing(self, name):
        return name in self.history and self.history[name][-1][1] is None

    def walk(self):
        self.start_store()
        self.strongroom("init", URL, "--create-bucket", "--passphrase-file", "pass")
        self.mount()
        self.load()
        self.start_prometheus()
        began, began_at = time.monotonic(), time.time()
        say(f"{self.seconds / 60:.0f} minutes, `for:` times {self.factor:.2f}")
        self.look(began + OUTAGE_BEGINS * self.seconds, began)
        self.check(not self.history, f"something fired before the outage: {self.history}")
        say("the store is gone")
        self.stop_store()
        outage = time.monotonic() - began
        self.look(began + OUTAGE_ENDS * self.seconds, began)
        self.check(set(self.history) == EXPECTED, f"in the outage fired {sorted(self.history)}")
        say("the store is back")
        self.start_store()
        back = time.monotonic() - began
        self.look(began + self.seconds, began)
        self.check(all(not self.is_firing(name) for name in EXPECTED), f"something fires on: {self.history}")
        self.check(set(self.history) == EXPECTED, f"after the outage fired {sorted(self.history)}")
        ended = time.monotonic() - began
        self.draw(began_at, ended, (outage, back))
        self.rest()
        say("unmounted")
        self.strongroom("umount", "vault")
        unmounted = time.monotonic() - began
        self.look_until(f"{GONE} fires", 120 * self.factor + 60, began, lambda: self.is_firing(GONE))
        self.mount()
        mounted = time.monotonic() - began
        self.look_until(f"{GONE} clears", 60, began, lambda: not self.is_firing(GONE))
        self.strongroom("umount", "vault")
        self.table(outage, back, unmounted, mounted)

    def check(self, holds, fault):
        if not holds:
            raise SystemExit(f"walk.py: {fault}")

    def rest(self):
        """Lets the work come to its end."""
        self.stop.set()
        for worker in self.workers:
            worker.join(120)
        say(f"done: {self.done}")
        self.check(all(count > 1 for count in self.done.values()), "there was too little work")

    def table(self, outage, back, unmounted, mounted):
        print("\n| alert | fired | cleared |\n|---|---|---|")
        for name in sorted(EXPECTED):
            (fired, cleared), *more = self.history[name]
            again = f", and {len(more)} times more" if more else ""
            print(f"| `{name}` | {fired - outage:.0f} s after the store went | {cleared - back:.0f} s after it was back{again} |")
        fired, cleared = self.history[GONE][-1]
        print(f"| `{GONE}` | {fired - unmounted:.0f} s after the unmount | {cleared - mounted:.0f} s after the next mount |")
        print(f"\n{self.done}", flush=True)

    def draw(self, began_at, ended, outage):
        dashboard = json.loads((HERE / "dashboard.json").read_text())
        by_title = {panel["title"]: panel for panel in dashboard["panels"]}
        panels = []
        for title in DRAWN:
            panel, curves = by_title[title], {}
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "30s").replace("$job", "strongroom").replace("$instance", ".*")
                data = self.ask("query_range", query=query, start=began_at, end=began_at + ended, step=SCRAPE_S)
                for series in data["result"]:
                    name = re.sub(r"{{(\w+)}}", lambda m: series["metric"].get(m[1], "") if m[1] != "instance" else "", target["legendFormat"])
                    points = [(at - began_at, float(value)) for at, value in series["values"]]
                    curves[name.strip() or panel["title"].split()[0].lower()] = [point for point in points if point[1] == point[1]]
            self.check(any(curves.values()), f"the query of '{title}' gave nothing")
            panels.append((title, panel["fieldConfig"]["defaults"]["unit"], curves))
        PICTURE.write_text(plot.svg(panels, [outage], ended))
        say(f"drawn: {PICTURE}")

    def end(self):
        self.stop.set()
        if self.vault.is_mount():
            status = subprocess.run([self.program, "status", "vault", "--json"], env=self.env, cwd=self.home, capture_output=True)
            if status.returncode == 0:
                # Something has failed, and the store may be gone: it would try to drain for ever.
                os.kill(json.loads(status.stdout)["mount"]["pid"], signal.SIGKILL)
            subprocess.run(["fusermount3", "-uzq", self.vault], check=False)
        for child in list(self.children):
            child.kill()
        for process in (self.prometheus, self.server):
            if process is not None:
                process.kill()
                process.wait()


def main():
    minutes, program = sys.argv[1:]
    if not minutes.isdecimal() or int(minutes) < MINUTES_MIN:
        sys.exit(f"walk.sh: at least {MINUTES_MIN} minutes, not '{minutes}'")
    if not Path(program).exists():
        sys.exit(f"walk.sh: {program} is missing: cargo build --release, or name another")
    home = Path(tempfile.mkdtemp(prefix="strongroom-walk-"))
    (home / "vault").mkdir()
    (home / "pass").touch(mode=0o600)
    (home / "pass").write_text(os.urandom(32).hex())
    walk = Walk(int(minutes), Path(program).resolve(), home)
    try:
        walk.walk()
    finally:
        walk.end()
        shutil.rmtree(home, ignore_errors=True)
    say("all alerts fired and cleared as they should")


main()
