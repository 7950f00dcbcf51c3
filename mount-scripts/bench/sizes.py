"""How much work there is."""

from work import MIB

STEPS = [
    *["write", "read", "fsync", "untar", "find", "read small", "read shuffled", "remove"],
    *["random", "overwrite", "random again", "readers", "idle", "unmount"],
]


class Sizes:
    """How much work there is. `--quick` is an eighth of it."""

    def __init__(self, quick):
        part = 8 if quick else 1
        self.large_mib = 1024 // part
        self.files = 5000 // part
        self.random_mib = 256 // part
        self.random_s = 12 // part
        self.overwrite_s = 20 // part
        self.shared_mib = 64 // part
        self.readers = 64
        self.reader_bytes = 4 * MIB // part
        self.syncs = 20 if not quick else 5
        self.idle_s = 60 if not quick else 10
