"""How a fork of the worker gives its powers away, and what of that this machine can do."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fusechat.sandbox import kernel

NOBODY = 65534
_SIGKILL = int(signal.SIGKILL)
_OWN_USERS = 1_000_000_000
"""Where the user ids of workers begin that run as root: one each, above any real user's."""
_OWN_JUDGES = 2_000_000_000
_DEVICES = {
    "/dev/null": kernel.READ_WRITE_FILE,
    "/dev/zero": kernel.READ_WRITE_FILE,
    "/dev/urandom": kernel.READ_FILES,
}
_LIBRARIES = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
)  # fmt: skip


@dataclass(frozen=True)
class Means:
    """What is used to confine: found out once, at the start of a worker."""

    user: int | None
    """User id that programs run as; none keeps the present, ordinary one."""
    judge: int | None
    """User id of the judge of strict mode."""
    landlock: int
    """Version of Landlock used; 0 is none."""
    seccomp: bool
    namespace: bool
    """Whether the worker sits in a network namespace of its own."""
    inherited: bool = False
    """Whether the worker is under the seccomp filter already."""

    def words(self) -> str:
        """In words, for the score's details."""
        used = [f"landlock {self.landlock}"] if self.landlock else []
        used += ["seccomp"] if self.seccomp else []
        used += ["network namespace"] if self.namespace else []
        return ", ".join([*used, "own user" if self.user else "same user"])

    def missing(self) -> str:
        """What is not used, in words, for the message that refuses a machine."""
        lacks = [] if self.landlock else ["Landlock"]
        lacks += [] if self.seccomp else ["seccomp"]
        lacks += [] if self.namespace or self.seccomp else ["network namespaces"]
        lacks += ["an unprivileged user"] if self.user is None and os.geteuid() == 0 else []
        return ", ".join(lacks)


@dataclass(frozen=True)
class Bounds:
    """Limits of one program, in the kernel's units."""

    seconds: int
    memory: int | None
    """None where this system does not tell what the interpreter itself takes."""
    file_size: int
    processes: int | None
    """None where this system does not tell how many the user has already."""
    open_files: int

    def settings(self) -> tuple[tuple[int, tuple[int, int]], ...]:
        """Arguments of `resource.setrlimit` that set them, none above what holds already."""
        found = []
        for kind, soft, hard in (
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_CPU, self.seconds, self.seconds + 1),
            (resource.RLIMIT_AS, self.memory, self.memory),
            (resource.RLIMIT_FSIZE, self.file_size, self.file_size),
            (resource.RLIMIT_NPROC, self.processes, self.processes),
            (resource.RLIMIT_NOFILE, self.open_files, self.open_files),
        ):
            if soft is None or hard is None:
                continue
            ceiling = resource.getrlimit(kind)[1]
            if ceiling != resource.RLIM_INFINITY:
                soft, hard = min(soft, ceiling), min(hard, ceiling)  # noqa: PLW2901
            found.append((kind, (soft, hard)))
        return tuple(found)


def confine(means: Means, ruleset: int | None, held: bool, judge: bool = False) -> None:
    """Give up user id, privileges, files, network and signals, as far as `means` go.

    `held`: the Python library is reached through `/proc/self/fd`, which the kernel hides from a
    process that has changed its user until it is made dumpable again. A program is dumpable (it
    may open `/dev/stdin`); the `judge` only where it must be, and then has another user id.
    """
    if means.user is not None:
        user = means.judge if judge and means.judge is not None else means.user
        os.setgroups([])
        os.setregid(means.user, means.user)
        os.setreuid(user, user)
    if kernel.LINUX:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)
        if not means.inherited:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if held or not judge:
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    if ruleset is not None:
        kernel.landlock_restrict(ruleset)
    if means.seccomp and not means.inherited:
        kernel.seccomp_restrict(None if means.landlock >= 6 else os.getpid())


def in_fork(work: Callable[[], Any]) -> Any:
    """The JSON value of `work()`, done in a fork; none where the fork failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None


def choose_users(number: int, own: bool = True) -> tuple[int | None, int | None]:
    """Unprivileged user ids for programs and for judges; none where this user is not root.

    `number` tells workers apart: each has ids of its `own` where ids are free, else nobody's.
    """
    if os.geteuid() != 0:
        return None, None

    def can_become(user: int) -> bool:
        try:
            os.setgroups([])
            os.setregid(user, user)
            os.setreuid(user, user)
        except OSError:
            return False
        return True

    def first(*users: int) -> int | None:
        return next((user for user in users if in_fork(partial(can_become, user))), None)

    user = first(*((_OWN_USERS + number,) if own else ()), NOBODY)
    judge = first(*((_OWN_JUDGES + number,) if own else ()), NOBODY - 1)
    return user, judge if user is not None else None


def reach_library(user: int | None) -> list[int]:
    """Keep only Python's own library on `sys.path`, readable for `user`; the descriptors held.

    A library below a folder that only root may enter (such as /root) is reached through
    descriptors opened here, by the path /proc/self/fd/<n>.
    """

    def paths() -> list[str]:
        import sysconfig  # large, so loaded in a fork

        return list(sysconfig.get_paths().values())

    roots = [os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)]
    roots += [os.path.realpath(p) for p in in_fork(paths) or []]
    sys.path[:] = [
        p for p in sys.path
        if os.path.isdir(p) and any(os.path.realpath(p).startswith(r) for r in roots)
    ]  # fmt: skip
    if user is None:
        return []

    def readable() -> list[bool]:
        os.setreuid(user, user)
        return [os.access(p, os.R_OK | os.X_OK) for p in sys.path]

    held = []
    for path, fine in zip(list(sys.path), in_fork(readable) or [], strict=False):
        if not fine:
            held.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
            _move_imports(path, f"/proc/self/fd/{held[-1]}")
    sys.path_importer_cache.clear()
    return held


def _move_imports(old: str, new: str) -> None:
    sys.path[:] = [new if p == old else p for p in sys.path]
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            places[:] = [new + p[len(old) :] if p.startswith(old + "/") else p for p in places]


def library_paths() -> Sequence[str]:
    """Folders of Python's library and of the shared libraries that it loads."""
    own = [os.path.join(p, "lib") for p in {sys.prefix, sys.base_prefix}]
    return [*_LIBRARIES, *own, *sys.path]


def make_ruleset(abi: int, private: str) -> int | None:
    """A Landlock ruleset with the library to read and `private` to do anything in."""
    if not abi:
        return None
    allowed = dict.fromkeys(library_paths(), kernel.READ_FILES)
    rights = {**allowed, **_DEVICES, private: kernel.all_file_rights(abi)}
    return kernel.landlock_ruleset(abi, rights)


def leave_network() -> bool:
    """Move this process into an empty network namespace; whether that worked."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with contextlib.suppress(OSError):
            kernel.unshare(kernel.CLONE_NEWNET)
            return True
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
        for file, text in (
            ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):  # fmt: skip
            with open(f"/proc/self/{file}", "w") as stream:
                stream.write(text)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, int]]:
    """The address of a listener in another process; this one never loads `socket`."""
    (told, tell), (held, hold) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            import socket

            with socket.create_server(("127.0.0.1", 0)) as listener:
                os.write(tell, json.dumps(listener.getsockname()).encode())
                os.close(tell)
                os.read(held, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(held)
    try:
        with os.fdopen(told, "rb") as stream:
            host, port = json.loads(stream.read())
        yield host, port
    finally:
        os.close(hold)
        os.waitpid(child, 0)


def what_holds(confine_here: Callable[[], None], outside: str, address: tuple[str, int]) -> str:
    """The level that confinement really gives, tried out in a fork.

    `outside` is a file that anyone may read, outside the private folder; at `address` there is
    a listener.
    """

    def denied(attempt: Callable[[], Any]) -> bool:
        try:
            attempt()
        except OSError:
            return True
        return False

    def connect() -> None:
        import socket

        with socket.socket() as link:
            link.settimeout(2)
            link.connect(address)

    def send_unconnected() -> None:
        import socket

        with socket.socket(type=socket.SOCK_DGRAM) as link:
            link.connect(address)
            link.send(b"?")

    def attempts() -> dict[str, bool]:
        import socket  # noqa: F401 - loaded while the library is surely there

        parent = os.getppid()
        confine_here()
        return {
            "user": os.geteuid() != 0,
            "network": denied(connect) and denied(send_unconnected),
            "signals": denied(lambda: os.kill(parent, 0)),
            "files": denied(lambda: os.open(outside, os.O_RDONLY)),
        }

    found: dict[str, bool] = in_fork(attempts) or {}
    if not (found.get("user") and found.get("network")):
        return "weak"
    if not found.get("signals"):
        return "weak"
    return "full" if found.get("files") else "network"
