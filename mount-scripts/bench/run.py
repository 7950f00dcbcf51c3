#!/usr/bin/env python3
"""The same work on Strongroom, on its peers and on plain S3, and what each of them took. `bench.sh` installs what this needs and runs it.

Every system gets an S3 server of its own (the embedded one), so that the server's counters are that system's alone, and nothing else is
mounted meanwhile. Each piece of work has a deadline: a mount that hangs is killed, its cell is a `-` with the reason, and the run goes on
with the next piece of work on a new mount. A system that lost something is a `-` too.

Peers are run as they are packaged, from the outside. Secrets are in files of mode 600 and in the environment, never in arguments.
"""

import argparse
import fcntl
import http.client
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from report import Report
from sizes import STEPS, Sizes
from systems import SYSTEMS, PlainS3, Server, Site, drop_copies_of_mounts, mounts_below, warn
from work import MIB, S3, Failed, TimedOut, uploads_begun

# Requests that a mount had under way when its work ended, and what it reads ahead of a reader that has gone, count for that work.
SETTLE_S = 0.3

WRITES = {"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload", "CopyObject", "UploadPartCopy"}
READS = {"GetObject", "HeadObject", "HeadBucket", "ListObjects", "ListObjectsV2", "ListParts", "ListMultipartUploads", "GetBucketLocation"}


class Battery:
    """All pieces of work on one system. `steps` holds what was found, or the reason why nothing was."""

    def __init__(self, site, server, system, given_up):
        self.site, self.server, self.system, self.sizes = site, server, system, site.sizes
        self.given_up = given_up
        self.steps = {}

    def step(self, name, work, requires=None, before=None):
        """Does one piece of work and notes what it took. `before` brings the system to where it starts and is not counted."""
        if name in self.site.left_out:
            self.steps[name] = {"error": "left out (--steps)"}
            return
        if name in self.given_up:
            self.steps[name] = {"error": self.given_up[name]}
            return
        if requires and "error" in self.steps.get(requires, {}):
            self.steps[name] = {"error": f"needs what '{requires}' leaves behind"}
            return
        try:
            if before:
                before()
            stats, cpu = self.server.stats(), self.site.meter.begin()
            found = work(self.site.deadline())
            time.sleep(SETTLE_S)
            found.update(difference(stats, self.server.stats()))
            found.setdefault("cpu_s", self.site.meter.sample() - cpu)
            found.setdefault("peak_mib", self.site.meter.peak_bytes / MIB)
            if "began" in found:
                found["seconds"] = found.pop("ended") - found.pop("began")
            self.steps[name] = found
        except (Failed, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
            self.steps[name] = {"error": str(error)}
            if isinstance(error, TimedOut):
                self.given_up[name] = f"{error} in an earlier round; not tried again"
            if self.system:
                self.system.kill()
                self.keep_log(name)

    def keep_log(self, step):
        """What a system has printed until it failed outlives the run, beside the results."""
        log = self.site.work / f"{self.system.key}.log"
        if log.exists():
            shutil.copy(log, self.site.work.parent / f"{self.system.key}-{step.replace(' ', '-')}.log")

    def run(self):
        if self.system is None:
            self.run_plain()
            return
        try:
            self.system.prepare()
        except (Failed, OSError, subprocess.SubprocessError) as error:
            for name in STEPS:
                self.steps[name] = {"error": f"no volume: {error}"}
            return
        self.run_mounted()

    def run_mounted(self):
        site, system, sizes, directory = self.site, self.system, self.sizes, self.system.directory
        small = f"{directory}/small"
        cold = system.remount

        def write(name, mib, deadline):
            objects = uploads_begun(self.server.stats())
            found = site.do("work_write", f"{directory}/{name}", mib, deadline=deadline)
            if system.uploads:
                system.durable(objects + 1, deadline)
                found["ended"] = time.monotonic()
            return found

        def until_unmounted(found, objects, deadline):
            system.durable(objects, deadline)
            system.unmount(deadline)
            return {**found, "ended": time.monotonic()}

        def untar(deadline):
            # Who uploads after `close` uploads each file by itself.
            objects = uploads_begun(self.server.stats()) + sizes.files
            return until_unmounted(site.do("work_untar", str(site.small_tar), str(directory), deadline=deadline), objects, deadline)

        def remove(deadline):
            return until_unmounted(site.do("work_remove", small, deadline=deadline), 0, deadline)

        def with_file(name, mib):
            def before():
                cold()
                write(name, mib, site.deadline())
                cold()

            return before

        def overwrite(deadline):
            objects = uploads_begun(self.server.stats()) + 1
            return until_unmounted(site.do("work_overwrite", f"{directory}/random", sizes.random_mib, sizes.overwrite_s, deadline=deadline), objects, deadline)

        def random_again(deadline):
            pages = self.steps["overwrite"]["pages"]
            return site.do("work_random_again", f"{directory}/random", sizes.random_mib, sizes.random_s, pages, deadline=deadline)

        def fsync(deadline):
            # Where the uploads are seen is known only once it is mounted.
            return site.do("work_fsync", str(directory), sizes.syncs, system.uploads, deadline=deadline)

        def idle(_deadline):
            time.sleep(sizes.idle_s)
            return {"idle_s": sizes.idle_s}

        def unmount(deadline):
            found = {"began": time.monotonic()}
            system.unmount(deadline)
            return {**found, "ended": time.monotonic()}

        def settled():
            cold()
            site.do("work_list", str(directory), deadline=site.deadline())
            # What a mount does once after it has begun is not idleness.
            time.sleep(10)

        def do(name, *arguments):
            return lambda deadline: site.do(name, *arguments, deadline=deadline)

        self.step("write", lambda deadline: write("large", sizes.large_mib, deadline), before=cold)
        self.step("read", do("work_read", f"{directory}/large", sizes.large_mib), "write", before=cold)
        self.step("fsync", fsync, before=cold)
        self.step("untar", untar, before=cold)
        self.step("find", do("work_find", small, sizes.files + -(-sizes.files // 100) + 1), "untar", before=cold)
        self.step("read small", do("work_read_small", small, sizes.files), "untar", before=cold)
        self.step("read shuffled", do("work_read_small", small, sizes.files, True), "untar", before=cold)
        self.step("remove", remove, "untar", before=cold)
        self.step("random", do("work_random", f"{directory}/random", sizes.random_mib, sizes.random_s), before=with_file("random", sizes.random_mib))
        self.step("overwrite", overwrite, "random", before=cold)
        self.step("random again", random_again, "overwrite", before=cold)
        readers = do("work_readers", f"{directory}/shared", sizes.shared_mib, sizes.readers, sizes.reader_bytes)
        self.step("readers", readers, before=with_file("shared", sizes.shared_mib))
        self.step("idle", idle, before=settled)
        self.step("unmount", unmount, "idle")
        system.kill()

    def run_plain(self):
        S3(self.server.port).request("PUT")
        sizes, port = self.sizes, self.server.port

        def do(name, *arguments):
            def work(deadline):
                # Its processes are the work itself, so what they take is not a system's.
                return {**self.site.do(name, port, *arguments, deadline=deadline), "cpu_s": None, "peak_mib": None}

            return work

        self.step("write", do("plain_write", "large", sizes.large_mib))
        self.step("read", do("plain_read", sizes.large_mib), "write")
        self.step("fsync", do("plain_fsync", sizes.syncs))
        self.step("untar", do("plain_untar", sizes.files))
        self.step("find", do("plain_find", sizes.files), "untar")
        self.step("read small", do("plain_read_small", sizes.files), "untar")
        self.step("remove", do("plain_remove", sizes.files), "untar")
        random_file = do("plain_write", "random", sizes.random_mib)
        self.step("random", do("plain_random", sizes.random_mib, sizes.random_s), before=lambda: random_file(self.site.deadline()))


def difference(before, after):
    counts = {kind: count - before["requests"].get(kind, 0) for kind, count in after["requests"].items()}
    moved = sum(after[key] - before[key] for key in ["socket_bytes_read", "socket_bytes_written"])
    writes = sum(count for kind, count in counts.items() if kind in WRITES)
    reads = sum(count for kind, count in counts.items() if kind in READS)
    return {"writes": writes, "reads_s3": reads, "others": sum(counts.values()) - writes - reads, "moved_mib": moved / MIB}


def measure(options):
    work = options.work / "run"
    options.work.mkdir(parents=True, exist_ok=True)
    if options.isolated:
        drop_copies_of_mounts([options.work, options.program, Path(__file__).resolve(), Path(sys.executable).resolve()])
    lock = open(options.work / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(f"another run is using {options.work}") from None
    clean(work)
    work.mkdir(mode=0o700)

    def stop(*_):
        raise KeyboardInterrupt

    for name in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
        signal.signal(name, stop)
    site = None
    try:
        site = Site(work, options.program, options.timeout, Sizes(options.quick))
        site.left_out = set(STEPS) - set(options.steps)
        return measure_all(options, site)
    finally:
        for name in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            signal.signal(name, signal.SIG_IGN)
        if site:
            site.kill()
        clean(work)


def clean(work):
    """Also what a run that was killed has left: its processes went with it, its mounts did not."""
    for directory in mounts_below(work):
        subprocess.run(["fusermount3", "-uz", directory], capture_output=True, timeout=30, check=False)
    if mounts_below(work):
        raise Failed(f"still mounted below {work}: {mounts_below(work)}")
    shutil.rmtree(work, ignore_errors=True)


def measure_all(options, site):
    systems = [SYSTEMS[key] for key in options.systems]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    results = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {memory_gib:.0f} GiB of memory, Linux {platform.release().split('-')[0]}",
        "quick": options.quick,
        "rounds": options.rounds,
        "versions": {system.key: system.version(options.program) for system in systems},
        "runs": [],
    }
    given_up = {}
    for number_of_round in range(1, options.rounds + 1):
        for latency_ms in options.latencies:
            for kind in systems:
                label = f"round {number_of_round} of {options.rounds}, {latency_ms} ms, {kind.title}"
                began = time.monotonic()
                server = Server(site, latency_ms)
                try:
                    system = None if kind is PlainS3 else kind(site, server)
                    battery = Battery(site, server, system, given_up.setdefault((kind.key, latency_ms), {}))
                    battery.run()
                finally:
                    server.stop()
                failures = [f"{step}: {found['error']}" for step, found in battery.steps.items() if "error" in found]
                warn(f"{label}: {time.monotonic() - began:.0f} s" + "".join(f"\n    - {failure}" for failure in failures))
                run = {"system": kind.key, "latency_ms": latency_ms, "round": number_of_round, "steps": battery.steps}
                results["runs"].append(run)
                (options.work / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def steps(text):
    named = [name.replace("-", " ") for name in text.split(",")]
    unknown = [name for name in named if name not in STEPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no step '{unknown[0]}'; there are " + ", ".join(name.replace(" ", "-") for name in STEPS))
    return named


def arguments():
    parser = argparse.ArgumentParser(description="Run mount-scripts/bench.sh instead: it installs and builds what this needs.")
    parser.add_argument("--program", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS))
    parser.add_argument("--latencies", type=lambda text: [int(part) for part in text.split(",")], default=[0, 20])
    parser.add_argument("--steps", type=steps, default=STEPS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=900)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--from", dest="results", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--isolated", action="store_true", help="this is a mount namespace of its own")
    return parser.parse_args()


def main():
    options = arguments()
    try:
        results = json.loads(options.results.read_text()) if options.results else measure(options)
        report = Report(results)
        print(report.text())
        if options.docs:
            report.write_docs(options.docs)
    except (Failed, OSError, json.JSONDecodeError) as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("stopped; nothing is left")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
