"""Leases: any number of processes take shards of one unit, each shard by one at a time.

A lease is a file `journal/00003.lease.1`, made exclusively: a hard link fails where the name is
taken. It says who holds the shard, and has a counter that a thread of the holder raises. Who
finds the lease of a dead holder makes the next generation (`.lease.2`), which only one can. A
holder looks before everything that it writes whether its own lease still stands. Journals are
of one generation, so that a paused holder that wakes cannot tear another's lines.

A lease is dead when its process is gone on the same host and boot, or when its file has not
changed for `PATIENCE` seconds of the reader's own monotonic clock. No time stamps are compared.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fusechat.faultpoints import reach

BEAT = 10.0
"""Seconds between two raises of a lease's counter; FUSECHAT_LEASE_BEAT sets another."""
PATIENCE = 120.0
"""Seconds without change after which a lease is dead; FUSECHAT_LEASE_PATIENCE sets another. On a
shared file system it must exceed the time after which a reader sees another host's writes."""


def _seconds(name: str, default: float) -> float:
    return float(os.environ.get(name, default))


@cache
def _place(pid: int) -> dict[str, Any]:
    """This process, so that others of the same place can see whether it lives."""
    return {
        "host": socket.gethostname(),
        "boot": _text(Path("/proc/sys/kernel/random/boot_id")),
        "space": _link(Path("/proc/self/ns/pid")),
        "pid": pid,
        "start": _start(pid),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """When a process began, in its system's own words; None where it is gone."""
    stat = _text(Path(f"/proc/{pid}/stat"))
    if stat:
        words = stat.rpartition(")")[2].split()
        return None if words[0] in "ZX" else words[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?"


class Lease:
    """The right to write one shard, as long as it is `held`."""

    def __init__(self, path: Path, number: int, generation: int, descriptor: int) -> None:
        self.path, self.number, self.generation = path, number, generation
        self._descriptor, self._counter = descriptor, 0
        self._inode = os.fstat(descriptor).st_ino

    def held(self) -> bool:
        """Whether nobody has taken the shard over."""
        try:
            mine = os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False
        return mine and not lease_path(self.path.parent, self.number, self.generation + 1).exists()

    def beat(self) -> None:
        """Raise the counter, in place: a lease that was taken over is not made again."""
        self._counter += 1
        with suppress(OSError):  # a full disk: the lease dies, which loses nothing
            os.pwrite(self._descriptor, _content(self._counter), 0)
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Forget it; its file stays."""
        os.close(self._descriptor)


def _content(counter: int) -> bytes:
    return json.dumps({**_place(os.getpid()), "counter": f"{counter:012d}"}).encode()


def lease_path(folder: Path, number: int, generation: int) -> Path:
    """Where the lease of one generation of a shard is."""
    return folder / f"{number:05d}.lease.{generation}"


def link_new(draft: Path, path: Path) -> None:
    """Put a whole file in place only if nothing is there; raises `FileExistsError` else."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # No hard links here: one process after the other is safe, as before; several are not.
        if path.exists():
            raise FileExistsError(path) from error
        draft.rename(path)


class Leases:
    """All leases that this process holds in one unit. Close it, which gives them back."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where the leases are, beside the journals."""
        self.folder = folder
        self.patience = _seconds("FUSECHAT_LEASE_PATIENCE", PATIENCE)
        self._beat = _seconds("FUSECHAT_LEASE_BEAT", BEAT)
        self.pause = min(2.0, self._beat / 4)
        """Seconds between two looks at what others hold."""
        self._held: dict[int, Lease] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, number: int, after: int = 0) -> Lease | None:
        """The shard's lease, of a generation above `after`; None while another holds it."""
        there = self.generations(number)
        if there and not self._dead(lease_path(self.folder, number, there[-1])):
            return None
        generation = max([after, *there]) + 1
        descriptor = self._make(number, generation)
        if descriptor is None:
            return None
        lease = Lease(lease_path(self.folder, number, generation), number, generation, descriptor)
        if self.generations(number)[-1] != generation:  # a later one stood when this was made
            self._remove(lease)
            return None
        for older in there:
            lease_path(self.folder, number, older).unlink(missing_ok=True)
        with self._lock:
            self._held[number] = lease
        self._start_beating()
        reach("lease.taken")
        return lease

    def is_free(self, number: int) -> bool:
        """Whether nobody alive holds the shard."""
        there = self.generations(number)
        return not there or self._dead(lease_path(self.folder, number, there[-1]))

    def give_back(self, lease: Lease) -> None:
        """Let the shard go."""
        with self._lock:
            self._held.pop(lease.number, None)
        self._remove(lease)

    def close(self) -> None:
        """Give all back and end the heartbeat."""
        for lease in list(self._held.values()):
            self.give_back(lease)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def generations(self, number: int) -> list[int]:
        """The generations of a shard's lease that are there, lowest first."""
        start = f"{number:05d}.lease."
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(name[len(start) :]) for name in names if name.startswith(start))

    def _make(self, number: int, generation: int) -> int | None:
        """Make the file exclusively and whole; its descriptor, or None where it is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{number:05d}.{socket.gethostname()}.{os.getpid()}"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.pwrite(descriptor, _content(0), 0)
            os.fsync(descriptor)
            link_new(draft, lease_path(self.folder, number, generation))
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, FileExistsError):
                return None
            raise
        finally:
            draft.unlink(missing_ok=True)
        return descriptor

    @staticmethod
    def _remove(lease: Lease) -> None:
        if lease.held():
            lease.path.unlink(missing_ok=True)
        lease.close()

    def _dead(self, path: Path) -> bool:
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # it was just given back: free at the next look
            return False
        if holder_is_gone(data):
            return True
        before, since = self._seen.get(path.name, (b"", 0.0))
        if before != data:
            self._seen[path.name] = (data, time.monotonic())
            return False
        return time.monotonic() - since > self.patience

    def _start_beating(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_beating, daemon=True)
            self._thread.start()

    def _keep_beating(self) -> None:
        while not self._ended.wait(self._beat):
            with self._lock:
                for lease in self._held.values():
                    lease.beat()


def holder_is_gone(data: bytes) -> bool:
    """Whether the process of a lease with this content is of this host and boot, and no more.

    False is no sign of life: of another host, or of a torn lease, it cannot be told at a look.
    """
    try:
        said = json.loads(data)
        own = _place(os.getpid())
        here = all(said[name] == own[name] for name in ("host", "boot", "space"))
        return here and _start(int(said["pid"])) != said["start"]
    except (ValueError, KeyError, TypeError):
        return False
