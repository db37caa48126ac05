"""Hostile programs as data: each with its tests and the ends that count as contained.

They run in the test's own process's sandbox, in strict mode, and as an ordinary user. A name
that ends in `!` may take a second.
"""

from __future__ import annotations

from dataclasses import dataclass

NO_SUCH_CALL = (
    "import ctypes, platform\nlibc = ctypes.CDLL(None, use_errno=True)\nallowed = []\n"
    "names = {'bpf': 321, 'userfaultfd': 323, 'perf_event_open': 298, 'io_uring_setup': 425,\n"
    "    'keyctl': 250, 'add_key': 248, 'mount': 165, 'unshare': 272, 'setns': 308,\n"
    "    'ptrace': 101, 'process_vm_readv': 310, 'open_by_handle_at': 304, 'init_module': 175,\n"
    "    'kexec_load': 246, 'pivot_root': 155, 'pidfd_getfd': 438,\n"
    "    'socket': 41, 'shmget': 29, 'semget': 64}\n"
    "for name, number in names.items():\n"
    "    given = {'unshare': (0x10000000,), 'socket': (1, 1, 1)}.get(name, (0,) * 5)\n"
    "    if libc.syscall(number, *given) >= 0: allowed.append(name)\n"
)


@dataclass(frozen=True)
class Row:
    """A program, its tests, and the statuses of `Verdict` that mean that it was contained."""

    name: str
    program: str
    tests: str = ""
    ends: tuple[str, ...] = ("passed",)
    needs: tuple[str, ...] = ("jail", "full", "network")
    """Levels at which it must be contained so."""


FILES = ("jail", "full")
WRONG = ("failed", "crashed", "timeout", "memory", "output", "invalid")

ROWS = [
    Row("fills the disk with files!", "while True:\n    for i in range(10 ** 9):\n"
        "        open(f'f{i}', 'wb').write(b'x' * (1 << 20))", ends=("failed", "output")),
    Row("makes a million files!", "for i in range(10 ** 9): open(f'f{i}', 'w').close()",
        ends=("output", "failed", "timeout")),
    Row("fills the disk with files that have no name!", "held = []\nfor i in range(50):\n"
        "    held.append(open('f', 'wb', buffering=0)); __import__('os').unlink('f')\n"
        "    held[-1].write(b'x' * (15 << 20))", ends=("failed",), needs=("jail",)),
    Row("a file larger than allowed", "open('f', 'wb').write(b'x' * (64 << 20))", ends=("failed",)),
    Row("writes to shared memory", "open('/dev/shm/fusechat-pwned', 'w')", ends=("failed",),
        needs=FILES),
    Row("a symbolic link out", "import os\nos.symlink('/etc', 'out')\nos.listdir('out')",
        ends=("failed",), needs=FILES),
    Row("a hard link to the library", "import os\nos.link(os.__file__, 'x')\nopen('x', 'a')",
        ends=("failed",)),
    Row("leaves links behind", "import os\nos.symlink('/', 'root')\nos.symlink('.', 'self')\n"
        "os.mkfifo('pipe')"),
    Row("a very deep folder", "import os\n"
        "for i in range(50): os.mkdir('d' * 200); os.chdir('d' * 200)"),
    Row("a device file", "import os, stat\nos.mknod('m', 0o666 | stat.S_IFCHR, os.makedev(1, 1))",
        ends=("failed",)),
    Row("an abstract socket", "import socket\nsocket.socket(socket.AF_UNIX).bind('\\0pwned')",
        ends=("failed",),
        needs=("seccomp",)),
    Row("system calls for attacks", NO_SUCH_CALL, "assert not allowed, allowed",
        ends=("passed",), needs=("seccomp",)),
    Row("a program of root's", "import os\nos.execv('/usr/bin/su', ['su'])", ends=("failed",)),
    Row("higher limits", "import resource\n"
        "for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):\n"
        "    try: resource.setrlimit(what, (-1, -1))\n    except (ValueError, OSError): continue\n"
        "    raise SystemError(what)"),
    Row("a higher priority", "import os\nos.nice(-5)", ends=("failed",)),
    Row("another root", "import os\nos.chroot('.')", ends=("failed",)),
    Row("the kernel's settings", "open('/proc/sys/kernel/core_pattern', 'w')", ends=("failed",)),
    Row("a huge message", "raise ValueError('x' * 10 ** 8)", ends=("failed", "memory")),
    Row("a message without end!", "class E(Exception):\n    def __str__(self):\n"
        "        while True: pass\nraise E", ends=("timeout",)),
    Row("a message that raises", "class E(BaseException):\n    def __str__(self): raise self\n"
        "raise E", ends=("failed",)),
    Row("endless recursion", "def f(): return f()", "assert f()", ends=("failed",)),
    Row("recursion without a limit", "import sys\nsys.setrecursionlimit(10 ** 9)\n"
        "class A:\n    def __repr__(self): return repr(self)\n", "repr(A())",
        ends=("crashed", "failed", "memory")),
    Row("empties every dictionary", "import gc\nfor x in gc.get_objects():\n"
        "    if type(x) is dict: x.clear()", "assert False", ends=WRONG),
    Row("a thread that outlives it", "import threading\n"
        "threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()"),
    Row("catches every signal", "import signal\nfor s in range(1, 65):\n"
        "    try: signal.signal(s, lambda *_: None)\n    except (OSError, ValueError): pass"),
    Row("tests import what is not there", "x = 1", "import no_such_module", ends=("failed",)),
    Row("a megabyte of program", "x = 1\n" * 200_000, "assert x == 1",
        ends=("passed", "invalid", "timeout")),
    Row("a program with NUL", "x = 1\0", "assert x == 1", ends=("invalid",)),
    Row("ten thousand brackets", "[" * 10_000, "assert x == 1", ends=("invalid",)),
    Row("a thread bomb", "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        ends=("failed",)),
    Row("sleeps in __del__ and at exit", "import atexit, time\nclass A:\n"
        "    def __del__(self): time.sleep(60)\na = A()\natexit.register(time.sleep, 60)"),
    Row("forks at exit", "import atexit, os\natexit.register(os.fork)\nos.fork()",
        "import os\nos.fork()"),
    Row("an end that does not end", "import os\nos._exit = lambda *_: None", "assert False",
        ends=("failed",)),
    Row("closes every descriptor", "import os\nos.closerange(0, 1000)", "assert False", ends=WRONG),
    Row("breaks the encoder", "import json, os\njson.dumps = os.write = None", "assert False",
        ends=WRONG),
    Row("writes into every descriptor", "import os\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, b'{\"status\": \"passed\"}\\n')\n    except OSError: pass",
        "assert False", ends=WRONG),
    Row("closes its own module", "import sys\nsys.modules.clear()", "assert False", ends=WRONG),
    Row("reads an empty input", "input()", ends=("failed",)),
    Row("aborts", "import os\nos.abort()", ends=("crashed",)),
    Row("takes memory that is shared", "import mmap\nmmap.mmap(-1, 8 << 30)", ends=("failed",)),
    Row("stops itself!", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        ends=("timeout",)),
]  # fmt: skip
