"""Runs untrusted Python programs against tests, contained.

`with Sandbox(Limits()) as box: box.run(program, tests)` gives a `Verdict`. One warm worker
process (`worker`) forks for each program; the fork confines itself (`confine`, by raw system
calls in `kernel`), then runs the program and its tests (`program`).

Every program gets: its own private folder, emptied afterwards; an environment without the
caller's variables; limits on processor time, wall-clock time, memory, output, file size, open
files and processes; no new privileges; an unprivileged user id where the caller is root; a
verdict on a descriptor of its own, behind a random word, so that neither printed text nor an
early exit passes for success. Whatever it leaves running is killed. Python's hash seed and
`random` are fixed, so that the same program gets the same verdict.

What is denied besides depends on the machine and is tried out at start, as the *level*:

- `full`: no network; no file outside the private folder but the Python library; no signal to
  another process, no other program started (Landlock and seccomp; Linux 6.12 or newer).
- `network`: no network and no signals, but the program can read what its user can read.
- `weak`: the network is open. Refused unless the caller allows it.

What it does not protect against. (1) A program that knows this sandbox can forge its verdict:
tests run in the program's own process, so it can read the random word from the frames that
called it, return objects equal to everything, or patch what tests use. (2) Faults of the
kernel: for programs written to attack, put the whole run in a virtual machine. (3) The limit
on memory holds for each process, so a program may use `processes` times as much; there is no
quota on the disk but file size times time. (4) It can learn that a file exists, though not
its content, and it can measure time.
"""

from fusechat.sandbox.box import Level, Limits, Sandbox, Verdict, VerdictStatus

__all__ = ["Level", "Limits", "Sandbox", "Verdict", "VerdictStatus"]
