"""Puts the worker into a bubblewrap jail: one for its whole life, not one for each program.

Inside there is no network, no process but the worker's own, read-only Python and shared
libraries, three devices, and one writable file system in memory of bounded size. What confines
each program outside of a jail confines it inside as well.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import fusechat

_LIBRARIES = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/lib", "/lib64",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_STREAMS = ("stdin", "stdout", "stderr")
_POWERS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_RESOURCE")
"""What a worker that runs as root needs, to become others and to clean up after them."""


def jail_prefix(folder: Path, size: int) -> list[str] | None:
    """The command that runs another one in a jail; none where bubblewrap is not installed.

    `folder` is where the writable file system of `size` bytes goes. Whether this machine allows
    a jail is only known when the command is run.
    """
    bwrap = shutil.which("bwrap") if sys.platform == "linux" else None
    if bwrap is None:
        return None
    root = os.geteuid() == 0
    command = [bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--as-pid-1", "--cap-drop", "ALL"]
    command += [] if root else ["--unshare-user"]
    for power in _POWERS if root else ():
        command += ["--cap-add", f"CAP_{power}"]
    needed = _outermost(_needed())
    for place in _above([*needed, *_DEVICES, str(folder)]):
        command += ["--perms", "0755", "--dir", place]
    for path in needed:
        kind = ["--symlink", os.readlink(path)] if os.path.islink(path) else ["--ro-bind", path]
        command += [*kind, path]
    command += ["--proc", "/proc"]
    for device in _DEVICES:
        command += ["--dev-bind", device, device]
    for number, stream in enumerate(_STREAMS):
        command += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{stream}"]
    command += ["--perms", "0711", "--size", str(size), "--tmpfs", str(folder)]
    return [*command, "--remount-ro", "/", "--chdir", str(folder), "--"]


def _needed() -> list[str]:
    """Python, its library, this package, and the shared libraries, where they are."""
    real = os.path.realpath
    package = str(Path(fusechat.__file__).parent)
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(real(sys.executable)).parent)]
    return [path for path in (*_LIBRARIES, *python, package) if os.path.lexists(path)]


def _above(paths: Iterable[str]) -> list[str]:
    """All folders above the paths, outer ones first: bubblewrap would close them to others."""
    found = {str(place) for path in paths for place in Path(path).parents}
    return sorted(found - {"/"}, key=len)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie below no other of them, each once."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(path.startswith(other.rstrip("/") + "/") for other in kept):
            kept.append(path)
    return kept
