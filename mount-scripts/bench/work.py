"""The pieces of work: on a mount, and the same on plain S3. Each runs in a process of its own (`work.py NAME ARGUMENTS`), because a mount that
hangs takes those who wait in it along; it answers what it found as JSON. What is read is compared with what was written.
"""

import hashlib
import hmac
import http.client
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from datetime import datetime, timezone
from urllib.parse import quote

MIB = 1 << 20
BUCKET = "bench"
REGION = "us-east-1"
# What the plain S3 column uses, and what the SDKs recommend: parts of 8 MiB, 8 at once.
PART_BYTES = 8 * MIB
PARALLEL = 8


class Failed(Exception):
    """A piece of work that did not end well; the text is the reason that the report gives."""


class TimedOut(Failed):
    """... because it took too long. It would again, so later rounds do not try."""


# --- What files hold

NOISE = random.Random(1).randbytes(MIB)


def block(index):
    """The MiB of a large file with this index: noise that nothing can compress, with the index in front."""
    return index.to_bytes(8, "little") + NOISE[8:]


def part_of_block(offset, length):
    """A range of a large file that lies within one MiB."""
    within = offset % MIB
    # Whoever reads at random compares each page: a whole block for each would take longer than the reading.
    return NOISE[within : within + length] if within >= 8 else block(offset // MIB)[within : within + length]


def small_name(index):
    return f"d{index // 100:02}/f{index % 100:02}"


def small_content(index):
    length = 1024 + index * 7919 % (15 * 1024 + 1)
    start = index * 4093 % (MIB - 16 * 1024)
    return NOISE[start : start + length]


def write_small_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for index in range(files):
            if index % 100 == 0:
                directory = tarfile.TarInfo(f"small/d{index // 100:02}")
                directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
                tar.addfile(directory)
            content = small_content(index)
            member = tarfile.TarInfo(f"small/{small_name(index)}")
            member.size, member.mode, member.mtime = len(content), 0o644, 1_600_000_000
            tar.addfile(member, io.BytesIO(content))


# --- A plain S3 client


class S3:
    """One kept-alive connection to the server. Requests are signed (version 4), their payload is not, as Strongroom does it."""

    def __init__(self, port):
        self.host = f"127.0.0.1:{port}"
        self.tag = None
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def request(self, method, key="", query="", body=None, headers=None, into=None):
        """Answers the body, or how many bytes of it were read into `into`. A query must be in order and encoded."""
        path = quote(f"/{BUCKET}/{key}" if key else f"/{BUCKET}")
        target = path + ("?" + query if query else "")
        self.connection.request(method, target, body=body, headers={**(headers or {}), **self._signature(method, path, query)})
        answer = self.connection.getresponse()
        self.tag = answer.getheader("ETag")
        if answer.status >= 300:
            raise Failed(f"{method} {path}: HTTP {answer.status} {answer.read(300)!r}")
        if into is None:
            return answer.read()
        got = 0
        view = memoryview(into)
        while got < len(view):
            count = answer.readinto(view[got:])
            if not count:
                break
            got += count
        answer.read()
        return got

    def _signature(self, method, path, query):
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        names = "host;x-amz-content-sha256;x-amz-date"
        headers = f"host:{self.host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{now}\n"
        canonical = "\n".join([method, path, query, headers, names, "UNSIGNED-PAYLOAD"])
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
        for word in [*scope.split("/"), text]:
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
        return {
            "x-amz-date": now,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}",
        }


# --- Waiting for uploads that go on after fsync


def get_json(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def uploads_begun(stats):
    """Objects that the server has been given, or is being given now: it counts a request when it begins."""
    return stats["requests"].get("PutObject", 0) + stats["requests"].get("CompleteMultipartUpload", 0)


def wait_for_uploads(uploads, at_least, every_s, deadline=None):
    """Until the server was given so many objects and is busy with none, and rclone has none queued. Each alone is not enough: the queue
    fills only after `close`, and what is uploaded at once is never in it."""
    while True:
        stats = get_json(uploads["stats_port"], "/stats")
        if uploads_begun(stats) >= at_least and stats["requests_in_flight"] == 0:
            cache = get_json(uploads["rc_port"], "/vfs/stats", "POST")["diskCache"]
            if cache["uploadsInProgress"] == 0 and cache["uploadsQueued"] == 0:
                return
        if deadline is not None and time.monotonic() > deadline:
            raise TimedOut("uploads were not done in time")
        time.sleep(every_s)


# --- Work on a mount: each of these runs in a process of its own, and answers what it found


def ensure(condition, complaint):
    if not condition:
        raise Failed(complaint)


def span(began):
    return {"began": began, "ended": time.monotonic()}


def work_write(path, mib):
    data = bytearray(NOISE)
    began = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for index in range(mib):
            data[:8] = index.to_bytes(8, "little")
            ensure(file.write(data) == MIB, "short write")
        os.fsync(file.fileno())
    return span(began)


def work_read(path, mib):
    buffer, expected = bytearray(MIB), bytearray(NOISE)
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        for index in range(mib):
            got = 0
            while got < MIB:
                count = file.readinto(memoryview(buffer)[got:])
                ensure(count, f"the file ends at {index * MIB + got} bytes")
                got += count
            expected[:8] = index.to_bytes(8, "little")
            ensure(buffer == expected, f"wrong bytes in MiB {index}")
    return span(began)


def work_untar(tar, directory):
    began = time.monotonic()
    # As any user unpacks: root's tar would also set the owner of each file, which some systems copy the object for.
    run_tool(["tar", "--no-same-owner", "-xf", tar, "-C", directory])
    return span(began)


def work_find(directory, expected):
    began = time.monotonic()
    lines = run_tool(["find", directory, "-ls"]).count(b"\n")
    ensure(lines == expected, f"find saw {lines} entries instead of {expected}")
    return span(began)


def work_list(directory):
    return {"entries": len(os.listdir(directory))}


def work_read_small(directory, files, shuffled=False):
    order = list(range(files))
    if shuffled:
        random.Random(5).shuffle(order)
    began = time.monotonic()
    for index in order:
        with open(f"{directory}/{small_name(index)}", "rb") as file:
            ensure(file.read() == small_content(index), f"wrong bytes in {small_name(index)}")
    return span(began)


def work_remove(directory):
    began = time.monotonic()
    run_tool(["rm", "-rf", directory])
    ensure(not os.path.exists(directory), "the directory is still there")
    return span(began)


def work_random(path, mib, seconds):
    order = random.Random(2)
    reads = 0
    file = os.open(path, os.O_RDONLY)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        offset = order.randrange(mib * MIB // 4096) * 4096
        ensure(os.pread(file, 4096, offset) == part_of_block(offset, 4096), f"wrong bytes at {offset}")
        reads += 1
    answer = span(began)
    os.close(file)
    return {**answer, "reads": reads}


def overwritten_page(offset):
    """What a page holds once it was overwritten: other noise than before, with its place in front."""
    at = (offset + MIB // 2) % MIB
    return offset.to_bytes(8, "little") + NOISE[at + 8 : at + 4096]


def pages_to_overwrite(mib):
    """Offsets of 4 KiB pages, in the order in which they are overwritten."""
    order = random.Random(3)
    while True:
        yield order.randrange(mib * MIB // 4096) * 4096


def work_overwrite(path, mib, seconds):
    file = os.open(path, os.O_WRONLY)
    began = time.monotonic()
    writes = 0
    for offset in pages_to_overwrite(mib):
        if time.monotonic() - began >= seconds:
            break
        ensure(os.pwrite(file, overwritten_page(offset), offset) == 4096, "a short write")
        writes += 1
    writing_s = time.monotonic() - began
    os.close(file)
    return {**span(began), "pages": writes, "writing_s": writing_s}


def work_random_again(path, mib, seconds, written):
    """Random reads of a file whose first `written` pages, in the order of work_overwrite, were overwritten."""
    changed = set(itertools.islice(pages_to_overwrite(mib), written))
    order, reads = random.Random(4), 0
    file = os.open(path, os.O_RDONLY)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        offset = order.randrange(mib * MIB // 4096) * 4096
        expected = overwritten_page(offset) if offset in changed else part_of_block(offset, 4096)
        ensure(os.pread(file, 4096, offset) == expected, f"wrong bytes at {offset}")
        reads += 1
    answer = span(began)
    os.close(file)
    return {**answer, "reads": reads, "distinct_mib": len(changed) * 4096 / MIB}


def work_readers(path, mib, readers, length):
    """Readers that start at once, each at a place of its own, and go long before the end of the file."""
    step = (mib * MIB - length) // readers // 4096 * 4096
    complaints = []

    def reader(number):
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(number * step)
                position = number * step
                while position < number * step + length:
                    want = min(128 * 1024, number * step + length - position, MIB - position % MIB)
                    data = file.read(want)
                    ensure(data and data == part_of_block(position, len(data)), f"wrong bytes at {position}")
                    position += len(data)
        except (OSError, Failed) as error:
            complaints.append(str(error))

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(readers)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ensure(not complaints, f"{len(complaints)} readers failed: {complaints[:1]}")
    return span(began)


def work_fsync(directory, count, uploads):
    """Times of a new 4 KiB file: until fsync returned, and until it was in S3."""
    returned, durable = [], []
    for index in range(count):
        seen = uploads_begun(get_json(uploads["stats_port"], "/stats")) if uploads else 0
        began = time.monotonic()
        with open(f"{directory}/sync-{index}", "wb", buffering=0) as file:
            file.write(NOISE[index * 4096 : (index + 1) * 4096])
            os.fsync(file.fileno())
            returned.append(time.monotonic() - began)
        if uploads:
            wait_for_uploads(uploads, seen + 1, 0.002)
            durable.append(time.monotonic() - began)
        else:
            durable.append(returned[-1])
    return {"returned_ms": statistics.median(returned) * 1e3, "durable_ms": statistics.median(durable) * 1e3}


# --- The same on plain S3


def in_parallel(function, port, jobs):
    """Calls `function(client, job)` for all jobs, with one process and one connection each for `PARALLEL` at once; answers what came back."""
    fork = multiprocessing.get_context("fork")
    todo = fork.Queue()
    done = fork.Queue()
    for job in [*jobs, *[None] * PARALLEL]:
        todo.put(job)

    def worker():
        client = S3(port)
        answers = []
        try:
            for job in iter(todo.get, None):
                answers.append((job, function(client, job)))
            done.put(answers)
        except (OSError, Failed, http.client.HTTPException) as error:
            done.put(str(error))

    processes = [fork.Process(target=worker) for _ in range(PARALLEL)]
    for process in processes:
        process.start()
    answers = []
    for _ in processes:
        answer = done.get()
        ensure(isinstance(answer, list), answer)
        answers += answer
    for process in processes:
        process.join()
    return answers


def plain_write(port, key, mib):
    client = S3(port)
    began = time.monotonic()
    upload_id = re.search(rb"<UploadId>(.*?)</UploadId>", client.request("POST", key, "uploads="))[1].decode()
    size = min(PART_BYTES, mib * MIB)
    per_part = size // MIB

    body = bytearray(NOISE * per_part)  # each process has its own from the fork on

    def put(client, number):
        for index in range(per_part):
            body[index * MIB : index * MIB + 8] = ((number - 1) * per_part + index).to_bytes(8, "little")
        client.request("PUT", key, f"partNumber={number}&uploadId={quote(upload_id, safe='')}", body)
        return client.tag

    tags = in_parallel(put, port, range(1, mib * MIB // size + 1))
    parts = "".join(f'<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>' for number, tag in sorted(tags))
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    client.request("POST", key, f"uploadId={quote(upload_id, safe='')}", body.encode())
    return span(began)


def ranged(client, key, first, length, into):
    got = client.request("GET", key, headers={"Range": f"bytes={first}-{first + length - 1}"}, into=into)
    ensure(got == length, f"{got} bytes instead of {length}")


def plain_read(port, mib):
    buffer = bytearray(PART_BYTES)
    size = min(PART_BYTES, mib * MIB)
    began = time.monotonic()
    in_parallel(lambda client, number: ranged(client, "large", number * size, size, memoryview(buffer)[:size]), port, range(mib * MIB // size))
    return span(began)


def plain_untar(port, files):
    began = time.monotonic()
    in_parallel(lambda client, index: client.request("PUT", f"small/{small_name(index)}", body=small_content(index)), port, range(files))
    return span(began)


def plain_find(port, files):
    client, query, seen = S3(port), "list-type=2", 0
    began = time.monotonic()
    while True:
        answer = client.request("GET", query=query + "&prefix=small%2F")
        seen += answer.count(b"<Key>")
        token = re.search(rb"<NextContinuationToken>(.*?)</NextContinuationToken>", answer)
        if not token:
            break
        query = f"continuation-token={quote(token[1].decode(), safe='')}&list-type=2"
    ensure(seen == files, f"{seen} objects listed instead of {files}")
    return span(began)


def plain_read_small(port, files):
    def get(client, index):
        ensure(client.request("GET", f"small/{small_name(index)}") == small_content(index), "wrong bytes")

    began = time.monotonic()
    in_parallel(get, port, range(files))
    return span(began)


def plain_remove(port, files):
    client = S3(port)
    began = time.monotonic()
    for first in range(0, files, 1000):
        keys = "".join(f"<Object><Key>small/{small_name(index)}</Key></Object>" for index in range(first, min(first + 1000, files)))
        body = f"<Delete><Quiet>true</Quiet>{keys}</Delete>".encode()
        client.request("POST", query="delete=", body=body)
    return span(began)


def plain_random(port, mib, seconds):
    client, order, reads, buffer = S3(port), random.Random(2), 0, bytearray(4096)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        offset = order.randrange(mib * MIB // 4096) * 4096
        ranged(client, "random", offset, 4096, buffer)
        reads += 1
    return {**span(began), "reads": reads}


def plain_fsync(port, count):
    client, times = S3(port), []
    for index in range(count):
        began = time.monotonic()
        client.request("PUT", f"sync-{index}", body=NOISE[index * 4096 : (index + 1) * 4096])
        times.append(time.monotonic() - began)
    median_ms = statistics.median(times) * 1e3
    return {"returned_ms": median_ms, "durable_ms": median_ms}


WORK = {name: function for name, function in globals().items() if name.startswith(("work_", "plain_"))}


def run_tool(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    ensure(done.returncode == 0, f"{argv[0]} failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


def work_main(name, arguments):
    try:
        answer = WORK[name](*json.loads(arguments))
    except (OSError, Failed, http.client.HTTPException) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    work_main(*sys.argv[1:])
