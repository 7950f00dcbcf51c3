"""The systems that are measured, the S3 server that each of them gets, and what becomes of their processes and mounts."""

import json
import os
import platform
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from work import BUCKET, MIB, PARALLEL, PART_BYTES, REGION, S3, Failed, TimedOut, get_json, run_tool, wait_for_uploads, write_small_tar

# A mount that does not appear within this has failed.
MOUNT_TIMEOUT_S = 60
WORK_PROGRAM = Path(__file__).with_name("work.py")


class Meter(threading.Thread):
    """Processor time and memory of a system's processes together, sampled: some of them are gone when their work is done."""

    INTERVAL_S = 0.02

    def __init__(self):
        super().__init__(daemon=True)
        self.lock = threading.Lock()
        self.seconds = {}
        self.finished_s = 0.0
        self.peak_bytes = 0

    def watch(self, pid):
        with self.lock:
            self.seconds[pid] = 0.0

    def sample(self):
        """Processor time so far of all that was ever watched."""
        with self.lock:
            together = 0
            for pid in list(self.seconds):
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    self.finished_s += self.seconds.pop(pid)
                    continue
                # Fields 14, 15 and 24 of proc(5); the first that is left here is field 3.
                self.seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                together += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            self.peak_bytes = max(self.peak_bytes, together)
            return self.finished_s + sum(self.seconds.values())

    def begin(self):
        """The same, and the peak of memory starts anew."""
        self.peak_bytes = 0
        return self.sample()

    def run(self):
        while True:
            self.sample()
            time.sleep(self.INTERVAL_S)


class Site:
    """The directory of a run, all processes that were started in it, and the way to get rid of both."""

    def __init__(self, work, program, timeout_s, sizes):
        self.work, self.program, self.timeout_s, self.sizes = work, program, timeout_s, sizes
        # Names of steps.
        self.left_out = set()
        self.children = []
        self.meter = Meter()
        self.secret_file("passphrase", secrets.token_hex(24) + "\n")
        self.small_tar = work / "small.tar"
        for name in ["home", "tmp"]:
            (work / name).mkdir()
        write_small_tar(self.small_tar, sizes.files)
        # Nothing of the user's own configuration, and nothing of it changed.
        for name in list(os.environ):
            if name.startswith(("AWS_", "RCLONE_")) or name.lower().endswith("_proxy"):
                del os.environ[name]
        os.environ.update(
            HOME=str(work / "home"),
            XDG_CONFIG_HOME=str(work / "home"),
            TMPDIR=str(work / "tmp"),
            AWS_ACCESS_KEY_ID="bench" + secrets.token_hex(6),
            AWS_SECRET_ACCESS_KEY=secrets.token_hex(20),
            AWS_REGION=REGION,
            AWS_EC2_METADATA_DISABLED="true",
        )
        self.meter.start()

    def secret_file(self, name, text):
        path = self.work / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    def spawn(self, argv, log, stdout=None):
        """Starts a process that does not outlive this one, away from the terminal's Ctrl-C: its end is ours to order."""
        with open(self.work / log, "ab") as output:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=stdout or output,
                stderr=output,
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def call(self, argv, log, deadline):
        """Runs a program to its end; answers what it printed."""
        child = self.spawn(argv, log, stdout=subprocess.PIPE)
        name = Path(str(argv[0])).name
        try:
            out, _ = child.communicate(timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill_group(child)
            raise TimedOut(f"not done within {self.timeout_s} s") from None
        if child.returncode != 0:
            raise Failed(f"{name} {argv[1] if len(argv) > 1 else ''} ended with {child.returncode}: {last_line(self.work / log)}")
        return out

    def do(self, name, *arguments, deadline):
        """One piece of work in its own process; answers what it found."""
        answer = json.loads(self.call([sys.executable, WORK_PROGRAM, name, json.dumps(arguments)], "work.log", deadline))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def deadline(self):
        return time.monotonic() + self.timeout_s

    def kill(self):
        """Ends everything that runs here, at once."""
        end_now(self.children, self.work)
        self.children = []


def kill_group(child):
    """Kills a process that we started, with those it has started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)


def end_now(children, work):
    """Kills processes and takes away the mounts below a directory. Without its process a mount fails those who wait in it, who could not
    be killed before."""
    for child in children:
        kill_group(child)
    for directory in mounts_below(work):
        subprocess.run(["fusermount3", "-uz", directory], capture_output=True, timeout=30, check=False)
    for child in children:
        if not ended(child, 10):
            warn(f"process {child.pid} does not go away")


def ended(child, timeout_s):
    """Whether a process ends in time. Does not poll as `Popen.wait` does: its naps of 50 ms would show in what is measured."""
    if child.poll() is not None:
        return True
    descriptor = os.pidfd_open(child.pid)
    try:
        select.select([descriptor], [], [], max(0, timeout_s))
    finally:
        os.close(descriptor)
    return child.poll() is not None


def warn(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def last_line(path):
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-200:] if lines else "no message"


def mount_table():
    """Mount points and their types. Only the table is read: touching a dead mount could hang."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split()
        yield re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path), kind


def mounts_below(directory):
    """Mount points below a directory, the innermost first."""
    return sorted((path for path, _ in mount_table() if path.startswith(f"{directory}/")), reverse=True)


def drop_copies_of_mounts(needed):
    """For a new mount namespace: others' FUSE mounts would live on in it after they unmounted them. Those that hold what is needed stay."""
    for path, kind in list(mount_table()):
        if kind.split(".")[0] == "fuse" and not any(Path(path) in place.parents for place in needed):
            subprocess.run(["umount", "-i", "-l", path], capture_output=True, timeout=30, check=False)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, deadline, complaint):
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(complaint)
        time.sleep(0.02)


class Server:
    """The embedded S3 server, for one system. It does not wait for the disk: that would measure this machine's disk, not the clients."""

    def __init__(self, site, latency_ms):
        self.site = site
        self.directory = site.work / "objects"
        out = site.work / "server.out"
        out.write_bytes(b"")
        argv = [site.program, "serve", self.directory, "--no-sync", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0"]
        if latency_ms:
            argv += ["--latency", f"{latency_ms}ms"]
        self.child = site.spawn(argv, "server.out")
        wait_until(lambda: b"/stats" in out.read_bytes(), time.monotonic() + 30, "the server did not start")
        text = out.read_text()
        self.port = int(re.search(r"listening on http://127\.0\.0\.1:(\d+)", text)[1])
        self.stats_port = int(re.search(r"statistics on http://127\.0\.0\.1:(\d+)", text)[1])
        self.url = f"http://127.0.0.1:{self.port}"
        os.environ["AWS_ENDPOINT_URL_S3"] = self.url

    def stats(self):
        return get_json(self.stats_port, "/stats")

    def stop(self):
        self.child.terminate()
        if not ended(self.child, 20):
            end_now([self.child], self.site.work)
        shutil.rmtree(self.directory, ignore_errors=True)


class System:
    """A way to mount a bucket. `directory` is where the work is done; `local` is what it may keep on this machine."""

    cold = "its directory of local files is emptied before each mount"

    def __init__(self, site, server):
        self.site, self.server = site, server
        self.local = site.work / "local"
        self.directory = site.work / "mnt"
        for path in [self.local, self.directory]:
            path.mkdir(exist_ok=True)
        # Mount points and their processes, the innermost last.
        self.mounted = []
        # For systems that upload after fsync and close: how to see that they are done.
        self.uploads = None

    def prepare(self):
        """Makes the volume."""

    def mount(self):
        raise NotImplementedError

    def start(self, argv, directory):
        child = self.site.spawn(argv, f"{self.key}.log")
        self.mounted.append((directory, child))
        self.site.meter.watch(child.pid)
        deadline = time.monotonic() + MOUNT_TIMEOUT_S

        def there():
            if child.poll() is not None:
                raise Failed(f"{argv[0]} ended with {child.returncode}: {last_line(self.site.work / f'{self.key}.log')}")
            return str(directory) in mounts_below(self.site.work)

        wait_until(there, deadline, f"not mounted within {MOUNT_TIMEOUT_S} s")

    def durable(self, objects, deadline):
        """Waits until what was written, synced and closed is in S3; `objects` is how many objects the server must have by then."""

    def unmount(self, deadline):
        """Unmounts cleanly and waits until all processes are gone."""
        while self.mounted:
            directory, child = self.mounted[-1]
            self.let_go(directory, deadline)
            if not ended(child, deadline - time.monotonic()):
                raise TimedOut(f"not unmounted within {self.site.timeout_s} s")
            self.mounted.pop()

    def let_go(self, directory, deadline):
        self.site.call(["fusermount3", "-u", directory], f"{self.key}.log", deadline)

    def forget(self):
        """What is cached on this machine."""
        shutil.rmtree(self.local)
        self.local.mkdir()

    def remount(self):
        """A mount that has nothing cached."""
        deadline = self.site.deadline()
        if self.mounted:
            self.durable(0, deadline)
            self.unmount(deadline)
        self.forget()
        self.mount()

    def kill(self):
        end_now([child for _, child in self.mounted], self.site.work)
        self.mounted = []


class Strongroom(System):
    key = "strongroom"
    title = "Strongroom"
    settings = "`--memory 256MiB`, the rest by default"
    durability = "`fsync` returns when the file is in S3. Work without fsync: until `strongroom umount` has returned"
    cold = "a new process with an empty state directory, and so an empty disk cache"
    url = f"s3://{BUCKET}/volume"

    @staticmethod
    def version(program):
        return run_tool([program, "--version"]).decode().split()[-1]

    def prepare(self):
        argv = [self.site.program, "init", self.url, "--create-bucket", "--passphrase-file", self.site.work / "passphrase"]
        self.site.call(argv, "strongroom.log", self.site.deadline())

    def mount(self):
        argv = [self.site.program, "mount", "-f", self.url, self.directory, "--passphrase-file", self.site.work / "passphrase"]
        self.start([*argv, "--state-dir", self.local, "--memory", "256MiB"], self.directory)

    def let_go(self, directory, deadline):
        self.site.call([self.site.program, "umount", directory, "--state-dir", self.local], "strongroom.log", deadline)


class Rclone(System):
    key = "rclone"
    title = "rclone mount + crypt"
    settings = "`--vfs-cache-mode full --vfs-write-back 0s --transfers 16`, names encrypted, the rest by default"
    durability = (
        "`fsync` and `close` return when the file is in a local cache, unencrypted; only a closed file is uploaded. Measured here: until all of "
        "it is closed, the server has the objects, and rclone's remote control (`vfs/stats`) says that nothing is queued"
    )

    @staticmethod
    def version(_program):
        return run_tool(["rclone", "version"]).decode().split()[1].lstrip("v")

    def prepare(self):
        S3(self.server.port).request("PUT")
        obscured = subprocess.run(
            ["rclone", "obscure", "-"], input=secrets.token_hex(24).encode(), capture_output=True, check=True
        ).stdout.decode().strip()
        config = f"""
[plain]
type = s3
provider = Other
env_auth = true
region = {REGION}
endpoint = {self.server.url}
list_version = 2

[sealed]
type = crypt
remote = plain:{BUCKET}/volume
password = {obscured}
"""
        self.config = self.site.secret_file("rclone.conf", config)

    def mount(self):
        self.uploads = {"rc_port": free_port(), "stats_port": self.server.stats_port}
        argv = ["rclone", "mount", "sealed:", self.directory, "--config", self.config, "--cache-dir", self.local]
        argv += ["--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--transfers", "16"]
        # The remote control listens on loopback and for the time of a mount only; it is asked for statistics.
        argv += ["--rc", "--rc-addr", f"127.0.0.1:{self.uploads['rc_port']}", "--rc-no-auth"]
        self.start(argv, self.directory)

    def durable(self, objects, deadline):
        wait_for_uploads(self.uploads, objects, 0.02, deadline)


class S3fsGocryptfs(System):
    key = "s3fs"
    title = "s3fs + gocryptfs"
    settings = "s3fs `use_path_request_style,enable_noobj_cache,listobjectsv2`; gocryptfs `-noprealloc`; the rest by default"
    durability = "`fsync` and `close` return when the whole file is in S3"
    cold = "new processes, and the directory of temporary files is emptied"

    @staticmethod
    def version(_program):
        s3fs = re.search(r"V(\S+)", run_tool(["s3fs", "--version"]).decode())[1]
        return f"{s3fs} + {run_tool(['gocryptfs', '--version']).decode().split(';')[0].split()[-1]}"

    def prepare(self):
        S3(self.server.port).request("PUT")
        self.passwd = self.site.secret_file("s3fs.passwd", f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}\n")
        self.cipher = self.site.work / "cipher"
        self.cipher.mkdir(exist_ok=True)
        self.mount_s3fs()
        argv = ["gocryptfs", "-init", "-q", "-passfile", self.site.work / "passphrase", self.cipher]
        self.site.call(argv, "s3fs.log", self.site.deadline())
        self.unmount(self.site.deadline())

    def mount_s3fs(self):
        options = f"url={self.server.url},use_path_request_style,enable_noobj_cache,listobjectsv2,endpoint={REGION}"
        argv = ["s3fs", BUCKET, self.cipher, "-f", "-o", f"{options},passwd_file={self.passwd},tmpdir={self.local}"]
        self.start(argv, self.cipher)

    def mount(self):
        self.mount_s3fs()
        argv = ["gocryptfs", "-fg", "-q", "-nosyslog", "-noprealloc", "-passfile", self.site.work / "passphrase"]
        self.start([*argv, self.cipher, self.directory], self.directory)


class PlainS3:
    key = "plain"
    title = "plain S3"
    settings = f"a loop in Python: {PARALLEL} processes with a kept-alive connection each, parts of {PART_BYTES // MIB} MiB"
    durability = "each request has been answered"
    cold = "nothing is cached"

    @staticmethod
    def version(_program):
        return f"Python {platform.python_version()}"


SYSTEMS = {system.key: system for system in [Strongroom, Rclone, S3fsGocryptfs, PlainS3]}
