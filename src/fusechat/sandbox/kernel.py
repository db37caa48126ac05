"""Linux system calls that confine a process, by ctypes alone.

Landlock (kernel documentation, userspace-api/landlock) takes rights on files, TCP and signals
away; seccomp (userspace-api/seccomp_filter) takes system calls away. Both need no privilege,
cannot be undone, and are inherited. A failed call raises `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
READ_FILES = 0b1100
"""Landlock rights: read a file, list a folder."""
READ_WRITE_FILE = 0b0110
"""Landlock rights: write and read a file."""
_OF_A_FILE = 0b0111 | 1 << 14 | 1 << 15
"""The rights that make sense for what is not a folder: run, write, read, truncate, ioctl."""


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int) -> None:
    """Change an attribute of this process."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) < 0:
        _check(-1, f"prctl({option})")


def unshare(flags: int) -> None:
    """Move this process into namespaces of its own."""
    if not LINUX:
        raise OSError(errno.ENOSYS, "unshare: not on this system")
    _check(_libc.unshare(flags), "unshare")


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int:
    """Version of Landlock here: 1 files, 4 TCP, 6 signals and abstract sockets; 0 is none."""
    if not LINUX:
        return 0
    version: int = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def all_file_rights(abi: int) -> int:
    """Every right on files that version `abi` knows."""
    known = {1: 13, 2: 14, 3: 15, 4: 15}
    return (1 << known.get(abi, 16)) - 1


def landlock_ruleset(abi: int, allowed: Mapping[str, int]) -> int:
    """A ruleset that allows only `allowed` (path -> rights on all below it); its descriptor.

    TCP and, from version 6, signals to processes outside are denied as well. Paths that are
    not there are passed over.
    """
    attr = _RulesetAttr(all_file_rights(abi), 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    made = _libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    ruleset = _check(made, "landlock_create_ruleset")
    for path, rights in allowed.items():
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        known = all_file_rights(abi) if os.path.isdir(path) else all_file_rights(abi) & _OF_A_FILE
        rule = _PathAttr(rights & known, parent)
        added = _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
        os.close(parent)
        _check(added, f"landlock_add_rule({path})")
    return ruleset


def landlock_restrict(ruleset: int) -> None:
    """Confine this process to a ruleset, for good."""
    _check(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")


@dataclass(frozen=True)
class _Machine:
    """Numbers of one processor architecture."""

    audit: int
    denied: Sequence[int]
    """Sockets, tracing, kernel objects that outlive a process, mounts, namespaces, modules."""
    clone: int
    self_signals: Sequence[int]
    """kill, tgkill: their first argument is the process."""
    other_signals: Sequence[int]


_CLONE3, _X32 = 435, 0x40000000
_EVERYWHERE = (425, 426, 427, 438, 440)
_NAMESPACES = 0x7E020000
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        denied=(41, 101, 29, 64, 68, 240, 248, 249, 250, 298, 300, 321, 323, 310, 311, 312, 319,
            155, 161, 165, 166, 175, 246, 272, 304, 308, 313, *_EVERYWHERE),
        clone=56, self_signals=(62, 234), other_signals=(200, 129, 297, 424),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        denied=(198, 117, 194, 190, 186, 180, 217, 218, 219, 241, 262, 280, 282, 270, 271, 272, 279,
            41, 51, 40, 39, 105, 104, 97, 265, 268, 273, *_EVERYWHERE),
        clone=220, self_signals=(129, 131), other_signals=(130, 138, 240, 424),
    ),
}  # fmt: skip

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _AUDIT, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("code", ctypes.POINTER(_Instruction)))


def seccomp_known() -> bool:
    """Whether the system call numbers of this processor are known here."""
    return LINUX and os.uname().machine in _MACHINES


def _program(machine: _Machine, own_pid: int | None) -> list[tuple[int, int, int, int]]:
    deny = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    code = [
        (_LOAD, 0, 0, _AUDIT), (_EQUAL, 1, 0, machine.audit), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), deny,
        (_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_EQUAL, 0, 4, machine.clone), (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NAMESPACES), deny, (_LOAD, 0, 0, _NUMBER),
    ]  # fmt: skip
    denied = list(machine.denied) + (list(machine.other_signals) if own_pid else [])
    for number in denied:
        code += [(_EQUAL, 0, 1, number), deny]
    for number in machine.self_signals if own_pid else ():
        code += [
            (_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 1, 0, own_pid or 0), deny, (_LOAD, 0, 0, _NUMBER),
        ]  # fmt: skip
    return [*code, (_RETURN, 0, 0, _ALLOW)]


@cache
def _compiled(own_pid: int | None) -> _Filter:
    lines = _program(_MACHINES[os.uname().machine], own_pid)
    code = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    return _Filter(len(lines), code)


def seccomp_restrict(own_pid: int | None = None) -> None:
    """Deny sockets, tracing, namespaces and the like to this process, for good.

    With `own_pid`, signals to any other process are denied too (where Landlock cannot).
    A denied call fails with EPERM. Needs no_new_privs.
    """
    attr = _compiled(own_pid)
    done = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(attr), 0, 0)
    _check(done, "seccomp")
