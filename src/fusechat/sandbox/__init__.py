"""Runs untrusted Python programs against tests, contained.

`with Sandbox(Limits()) as box: box.run(program, tests)` gives a `Verdict`. One warm worker
process (`worker`), in a bubblewrap jail where that works (`jail`), forks for each program; the
fork confines itself (`confine`, by raw system calls in `kernel`), then runs the program and its
tests (`program`), each assert counted (`checks`), while the worker watches it (`watch`). Tests
may run the program as a script: `__run_script__(stdin)` gives what it prints (`script`).

Every program gets: its own private folder, emptied afterwards; an environment without the
caller's variables; limits on processor time, wall-clock time, memory, output, files, open
files and processes; no new privileges; an unprivileged user id where the caller is root; a
verdict on a descriptor of its own, behind a random word, so that neither printed text nor an
early exit passes for success. Whatever it leaves running is killed. Python's hash seed and
`random` are fixed, so that the same program gets the same verdict.

What is denied besides depends on the machine and is tried out at start, as the *level*:

- `jail`: as `full`, and the worker itself is in a jail: no process, no file, no network of the
  machine is there to be reached, and all that a program writes lies in memory of fixed size.
- `full`: no network; no file outside the private folder but the Python library; no signal to
  another process, no other program started (Landlock and seccomp; Linux 6.12 or newer).
- `network`: no network and no signals, but the program can read what its user can read.
- `weak`: the network is open, and more may be: all that there is on other systems than Linux.
  Refused unless the caller allows it.

By default tests run in the program's own process, so a program that knows this sandbox can
forge its verdict: read the random word or the tests from the frames that called it, return
objects equal to everything, patch what tests use. `strict=True` runs the tests in another
process (`judge`, `proxies`), which gets plain values over a pipe (`wire`) and never an object
of the program (`candidate`): none of these work there, at any level but `weak`. Tests that need
more than that are `unsupported`, which is no failure. What strict mode leaves: names that tests
use and neither define nor import come from the program, so tests should import what they
compare with; and a program may answer right for wrong reasons.

What neither protects against. (1) Faults of the kernel: for programs written to attack, put the
whole run in a virtual machine. (2) The limit on memory holds for each process, so a program may
use `processes` times as much. (3) Outside of a jail, files are counted every quarter of a
second, and files that were deleted while open are not: `file_mb` times `open_files` times
`processes` is the bound for those. (4) A program can learn that a file exists, though not its
content, and can measure time. (5) Without a subreaper (not Linux) a program that leaves its
process group outlives its run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusechat.sandbox.box import Level, Limits, Sandbox, Verdict, VerdictStatus

__all__ = ["Level", "Limits", "Sandbox", "Verdict", "VerdictStatus"]


def __getattr__(name: str) -> Any:
    """Loads `box` when it is first used: a worker, which lives here too, must stay small."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fusechat.sandbox import box

    return getattr(box, name)
