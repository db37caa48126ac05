"""Hostile programs: each must be contained, and the next ordinary program must pass."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.sandbox import Limits, Sandbox, Verdict
from sandbox.hostile_programs import ROWS, Row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

LIMITS = Limits(seconds=1, wall_seconds=2.5, memory_mb=256, output_kb=128)


@pytest.fixture(
    scope="module",
    params=[(), ("bubblewrap",), ("bubblewrap", "landlock"), ("bubblewrap", "seccomp")],
    ids=["all", "no-jail", "no-landlock", "no-seccomp"],
)
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(LIMITS, without=request.param, allow_weak=True) as opened:
        if opened.level == "weak":
            pytest.skip(f"these means contain nothing here: {opened.means}")
        yield opened


@pytest.fixture
def run(box: Sandbox) -> Iterator[Sandbox]:
    process = box.pid
    yield box
    assert box.run("x = 1", "assert x == 1").status == "passed"
    assert box.pid == process, "the worker must outlive every program"
    assert not _children_of(worker_of(box))


def worker_of(box: Sandbox) -> int:
    """The worker's process id; in a jail, `box.pid` is bubblewrap's."""
    assert box.pid is not None
    return int(_children_of(box.pid)[0]) if "bubblewrap" in box.means else box.pid


def _children_of(worker: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(fields[1]) == worker:
            found.append(entry.name)
    return found


def _processes_saying(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and word in (entry / "comm").read_text():
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.fixture
def run_once(run: Sandbox) -> Sandbox:
    """For limits on time, which take long and do not depend on the means."""
    if "bubblewrap" not in run._without or len(run._without) > 1:
        pytest.skip("limits on time do not depend on these means")
    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_is_contained(run: Sandbox, row: Row) -> None:
    if run.level not in row.needs and not any(word in run.means for word in row.needs):
        pytest.skip(f"level {run.level} does not contain it")
    if row.name.endswith("!") and run.level == "network":
        pytest.skip("limits on time and disk do not depend on these means")
    verdict = judge(run, row.program, row.tests)
    assert verdict.status in row.ends, verdict


def judge(box: Sandbox, program: str, tests: str = "") -> Verdict:
    return box.run(program, tests)


def test_an_endless_loop_is_out_of_time(run_once: Sandbox) -> None:
    assert judge(run_once, "while True: pass").status == "timeout"


def test_a_sleeper_that_ignores_signals_is_out_of_time(run_once: Sandbox) -> None:
    program = (
        "import signal, time\n"
        "for s in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):\n"
        "    signal.signal(s, signal.SIG_IGN)\n"
        "while True:\n    try: time.sleep(1)\n    except BaseException: pass\n"
    )
    assert judge(run_once, program).status == "timeout"


def test_a_loop_that_ignores_the_processor_limit_is_out_of_time(run_once: Sandbox) -> None:
    program = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass\n"
    assert judge(run_once, program).status == "timeout"


def test_a_memory_bomb_is_out_of_memory(run: Sandbox) -> None:
    assert judge(run, "x = []\nwhile True: x.append(bytearray(20 << 20))").status == "memory"


def test_a_gigabyte_of_output_is_stopped(run: Sandbox) -> None:
    program = "import os\nfor _ in range(1 << 10): os.write(1, b'x' * (1 << 20))"
    assert judge(run, program).status == "output"


def test_a_fork_bomb_is_bounded_and_swept(run: Sandbox) -> None:
    program = (
        "import os, time, ctypes\nctypes.CDLL(None).prctl(15, b'bombfusechat', 0, 0, 0)\n"
        "try:\n    while True: os.fork()\nexcept BaseException: time.sleep(30)\n"
    )
    assert judge(run, program).status in ("timeout", "failed")
    assert _processes_saying("bombfusechat") == []


def test_a_double_forked_daemon_leaves_nothing_behind(run: Sandbox) -> None:
    program = (
        "import os, time, ctypes\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        ctypes.CDLL(None).prctl(15, b'daemonfusechat', 0, 0, 0)\n"
        "        os.closerange(0, 20)\n"
        "        time.sleep(60)\n    os._exit(0)\ntime.sleep(0.2)\n"
    )
    assert judge(run, program).status == "passed"
    assert _processes_saying("daemonfusech") == []


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "print('passed')\nimport os\nos._exit(0)",
        'import os\nfor fd in range(3, 64):\n    try: os.write(fd, b\'{"status": "passed"}\\n\')\n'
        "    except OSError: pass\nos._exit(0)",
        "import os\nos.execv('/bin/true', ['true'])",
        "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    ],
)
def test_an_early_end_is_no_success(run: Sandbox, program: str) -> None:
    assert judge(run, program, "assert False").status == "failed"


def test_a_forked_twin_that_passes_does_not_speak_for_the_program(run: Sandbox) -> None:
    program = "import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\n"
    assert judge(run, program, "assert child == 0").status == "failed"


def test_a_crash_is_told(run: Sandbox) -> None:
    verdict = judge(run, "import ctypes\nctypes.string_at(0)")
    assert (verdict.status, verdict.exception) == ("crashed", "SIGSEGV")


def test_files_outside_cannot_be_written(run: Sandbox, tmp_path: Path) -> None:
    places = [str(tmp_path / "pwned")]
    if run.level in ("jail", "full"):
        places += [f"{p}/fusechat-pwned" for p in ("/tmp", "/var/tmp", "/dev/shm", "..")]
    program = (
        f"ok = []\nfor p in {places!r}:\n    try: open(p, 'w').write('x'); ok.append(p)\n"
        "    except OSError: pass\n"
    )
    assert judge(run, program, "assert ok == [], ok").message == ""
    assert not any(os.path.exists(p) for p in places)


def test_files_outside_cannot_be_read(run: Sandbox, tmp_path: Path) -> None:
    home = Path.home() / ".ssh"
    secret = tmp_path / "secret"
    secret.write_text("x")
    places = [str(home), str(home / "id_rsa"), str(secret), f"/proc/{os.getpid()}/environ"]
    if run.level in ("jail", "full"):
        places += ["/etc/passwd", "/proc/1/cmdline", "/proc/self/environ", "/etc", "/tmp"]
    program = (
        f"import os\nok = []\nfor p in {places!r}:\n"
        "    try: (os.listdir(p) if os.path.isdir(p) else open(p, 'rb').read(1)); ok.append(p)\n"
        "    except OSError: pass\n"
    )
    assert judge(run, program, "assert ok == [], ok").message == ""


def test_a_loopback_listener_cannot_be_reached(run: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        program = (
            "import socket\ngot = False\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 1); got = True\n"
            "except OSError: pass\n"
        )
        assert judge(run, program, "assert not got").status == "passed"
        with pytest.raises(TimeoutError):
            listener.accept()


def test_datagrams_do_not_leave(run: Sandbox) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.2)
        program = (
            "import socket\ntry:\n    s = socket.socket(type=socket.SOCK_DGRAM)\n"
            f"    s.sendto(b'x', {listener.getsockname()!r})\nexcept OSError: pass\n"
        )
        assert judge(run, program).status == "passed"
        with pytest.raises(TimeoutError):
            listener.recv(1)


def test_other_processes_cannot_be_signalled_or_traced(run: Sandbox) -> None:
    program = (
        "import os, ctypes, signal\ndone = []\nlibc = ctypes.CDLL(None)\n"
        f"for pid in (os.getppid(), {os.getpid()}):\n"
        "    try: os.kill(pid, signal.SIGKILL); done.append(('kill', pid))\n"
        "    except OSError: pass\n"
        "    if libc.ptrace(16, pid, 0, 0) == 0: done.append(('trace', pid))\n"
        "    for part in ('mem', 'environ'):\n"
        "        try: open(f'/proc/{pid}/{part}', 'rb').read(0); done.append((part, pid))\n"
        "        except OSError: pass\n"
    )
    assert judge(run, program, "assert done == [], done").message == ""


def test_killing_everything_kills_only_itself(run: Sandbox) -> None:
    program = "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\n"
    assert judge(run, program).status in ("passed", "crashed", "failed")
    assert _alive(run)


def _alive(box: Sandbox) -> bool:
    time.sleep(0.05)
    return Path(f"/proc/{worker_of(box)}").exists()


def test_no_other_program_can_be_started(run: Sandbox) -> None:
    if run.level not in ("jail", "full"):
        pytest.skip("only Landlock denies this")
    program = (
        "import subprocess\nran = True\ntry: subprocess.run(['/bin/ls'])\n"
        "except OSError: ran = False\n"
    )
    assert judge(run, program, "assert not ran").status == "passed"


def test_privileges_cannot_be_had_back(run: Sandbox) -> None:
    program = (
        "import os\ngot = []\nfor what in (os.setuid, os.setgid, os.seteuid):\n"
        "    try: what(0); got.append(what.__name__)\n    except OSError: pass\n"
    )
    assert judge(run, program, "assert got == [] and os.getuid() != 0, got").message == ""


def test_a_large_file_is_refused(run: Sandbox) -> None:
    verdict = judge(run, "open('big', 'wb').write(b'x' * (100 << 20))")
    assert (verdict.status, verdict.exception) == ("failed", "OSError")


def test_a_folder_made_unreadable_is_removed_all_the_same(run: Sandbox) -> None:
    program = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a', 0)"
    assert judge(run, program).status == "passed"
    assert run._folder is not None
    inside = Path(f"/proc/{worker_of(run)}/root{run._folder}")
    assert list((inside / "programs").iterdir()) == []
