"""What the sandbox says of ordinary programs, its limits and its levels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusechat
from fusechat.errors import PartError
from fusechat.sandbox import Limits, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

SQUARE = "def square(x):\n    return x * x\n"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=1, wall_seconds=5)) as opened:
        yield opened


def test_a_right_program_passes_and_its_level_is_told(box: Sandbox) -> None:
    verdict = box.run(SQUARE, "assert square(3) == 9")
    assert (verdict.status, verdict.message) == ("passed", "")
    assert verdict.level == box.level in ("jail", "full", "network")


def test_a_wrong_program_fails_with_the_line_of_the_test(box: Sandbox) -> None:
    verdict = box.run(SQUARE, "assert square(3) == 9\nassert square(2) == 5")
    assert (verdict.status, verdict.phase, verdict.exception) == (
        "failed", "tests", "AssertionError",
    )  # fmt: skip
    assert "line 2: assert square(2) == 5" in verdict.message


@pytest.mark.parametrize("text", ["def f(:", "\0", "(" * 10000, "return 3"])
def test_text_that_is_not_python_is_invalid_and_runs_nothing(box: Sandbox, text: str) -> None:
    verdict = box.run(text, "print(1)")
    assert (verdict.status, verdict.phase) == ("invalid", "program")


def test_tests_that_are_not_python_are_told_apart(box: Sandbox) -> None:
    assert box.run(SQUARE, "assert (").phase == "tests"


def test_uncommon_modules_of_the_library_can_be_imported(box: Sandbox) -> None:
    program = (
        "import fractions, statistics, decimal, datetime, csv, html.parser, difflib, sqlite3\n"
        "import xml.etree.ElementTree, asyncio, unittest, concurrent.futures, bz2, ctypes\n"
        "def middle(xs): return statistics.median(fractions.Fraction(x) for x in xs)\n"
    )
    tests = "assert middle([1, 2, 4]) == 2\nassert asyncio.run(asyncio.sleep(0, 5)) == 5"
    assert box.run(program, tests).status == "passed"


def test_a_main_guard_of_the_program_does_not_run_but_one_of_the_tests_does(box: Sandbox) -> None:
    guard = "if __name__ == '__main__':\n    "
    assert box.run(SQUARE + guard + "input()", "assert square(1) == 1").status == "passed"
    assert box.run(SQUARE, guard + "assert square(1) == 2").status == "failed"


def test_threads_files_and_dataclasses_work(box: Sandbox) -> None:
    program = (
        "import dataclasses, threading, tempfile, os\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n    seen: 'list[int] | None' = None\n"
        "def run():\n    out = []\n"
        "    t = threading.Thread(target=lambda: out.append(Point(1))); t.start(); t.join()\n"
        "    with open('note.txt', 'w') as f: f.write('kept')\n"
        "    with tempfile.NamedTemporaryFile() as g: g.write(b'x')\n"
        "    os.makedirs('a/b')\n"
        "    return out, open('note.txt').read()\n"
    )
    assert box.run(program, "assert run() == ([Point(1)], 'kept')").status == "passed"
    assert box.run("import os", "assert os.listdir('.') == []").status == "passed"


def test_random_programs_get_the_same_verdict_every_time() -> None:
    program = "import random\nlucky = random.random(), list({'a', 'b', 'c', 'd', 'e'})\n"
    said = set()
    for _ in range(2):
        with Sandbox() as box:
            said |= {box.run(program, "raise KeyError(repr(lucky))").message for _ in range(2)}
    assert len(said) == 1


def test_the_callers_environment_is_not_handed_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with Sandbox() as box:
        verdict = box.run("import os", "assert 'OPENAI_API_KEY' not in os.environ")
    assert verdict.status == "passed"


def test_programs_start_from_a_small_process_with_the_collector_on(box: Sandbox) -> None:
    heavy = "{'socket', 'shutil', 'subprocess', 'tempfile', 'threading', 'hashlib', 'decimal'}"
    program = f"import gc, os, sys\nloaded = {heavy} & set(sys.modules)\n"
    tests = (
        "assert not loaded, loaded\nassert gc.isenabled()\nassert 'LD_BIND_NOW' not in os.environ"
    )
    assert box.run(program, tests).message == ""


def test_a_private_folder_that_could_not_be_removed_is_not_used_again() -> None:
    with Sandbox(without=["bubblewrap"]) as box:
        assert box._folder is not None
        left = box._folder / "programs" / "0"
        left.mkdir()
        (left / "note").touch()
        for _ in range(2):
            look = (
                "import os\nassert os.listdir('.') == []\nassert os.getcwd() == os.environ['HOME']"
            )
            assert box.run("", look).message == ""
        assert (left / "note").exists()


def test_a_preloaded_module_must_exist() -> None:
    with pytest.raises(PartError, match="no_such_module"), Sandbox(preload=["no_such_module"]):
        pass


def test_a_dead_worker_is_replaced_and_the_program_judged_again(box: Sandbox) -> None:
    assert box.pid is not None
    os.kill(box.pid, signal.SIGKILL)
    assert box.run(SQUARE, "assert square(3) == 9").status == "passed"


def test_words_of_a_program_are_cut_and_can_be_stored(box: Sandbox) -> None:
    verdict = box.run("", "raise ValueError(chr(0xd800) + 'x' * 10_000)")
    assert verdict.message.encode()
    assert len(verdict.message) <= 600
    own = "class KeyError(Exception):\n    __module__ = 'builtins'\nraise KeyError"
    assert box.run(own, "").exception == "an exception of its own"


def test_a_program_that_forges_a_strange_verdict_harms_only_itself(box: Sandbox) -> None:
    forge = (
        "import sys, json, os\nframe = sys._getframe()\n"
        "while 'nonce' not in frame.f_locals: frame = frame.f_back\n"
        "told = {'nonce': frame.f_locals['nonce'], 'pid': os.getpid(), 'status': 'odd', 'x': []}\n"
        "os.write(frame.f_locals['descriptor'], json.dumps(told).encode() + b'\\n')\nos._exit(0)\n"
    )
    assert box.run(forge, "").status == "crashed"


def test_closing_leaves_no_process_and_no_folder() -> None:
    with Sandbox() as box:
        folder, pid = box._folder, box.pid
        assert box.run(SQUARE, "square(1)").status == "passed"
    assert folder is not None
    assert not folder.exists()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_and_its_program_end_when_their_owner_is_killed() -> None:
    script = (
        "import os, threading, time\nfrom fusechat.sandbox import Sandbox\n"
        "box = Sandbox().__enter__()\n"
        "threading.Thread(target=box.run, args=('import time', 'time.sleep(60)')).start()\n"
        "time.sleep(1); print(box.pid, flush=True); time.sleep(60)\n"
    )
    root = str(Path(fusechat.__file__).parent.parent)
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert owner.stdout is not None
    worker = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert _gone(worker)


def _gone(pid: int) -> bool:
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or b"sandbox.worker" not in _command(pid):
            return True
        time.sleep(0.1)
    return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_machine_that_cannot_block_the_network_is_refused_with_the_mend() -> None:
    nothing = ("bubblewrap", "seccomp", "namespace", "landlock")
    with (
        pytest.raises(PartError, match="allow_weak_sandbox: true"),
        Sandbox(without=nothing),
    ):
        pass
    with Sandbox(without=nothing, allow_weak=True) as box:
        assert box.run(SQUARE, "assert square(3) == 9").level == "weak"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_nobody_stands_in_where_no_user_id_is_free() -> None:
    fork = "import os\nchild = os.fork()\nif child == 0: os._exit(0)\nos.waitpid(child, 0)\n"
    with Sandbox(without=["own user"]) as box:
        assert box.run(fork, "assert os.getuid() == 65534").status == "passed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("without", "levels"), [([], "jail full network"), (["bubblewrap", "landlock"], "network")]
)
def test_it_works_for_an_ordinary_user(without: list[str], levels: str) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    if python is None or subprocess.run([python, "-c", check]).returncode != 0:
        pytest.skip("needs a Python 3.11 that every user can run")
    script = (
        "import json, os\nfrom fusechat.sandbox import Sandbox\n"
        "kill = 'import os\\nos.kill(os.getppid(), 9)'\n"
        "import sys\nwith Sandbox(without=sys.argv[1:]) as box:\n"
        "    print(json.dumps([os.geteuid(), box.level,\n"
        "        box.run('x = 1', 'import statistics\\nassert x').status,\n"
        "        box.run('import socket', 'socket.socket()').exception,\n"
        "        box.run(kill, '').exception]))\n"
    )
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shutil.copytree(Path(fusechat.__file__).parent, folder / "fusechat")
        folder.chmod(0o755)
        done = subprocess.run(
            [python, "-c", script, *without], user=65534, group=65534, extra_groups=[], cwd=folder,
            capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    user, level, passed, socket_error, kill_error = json.loads(done.stdout)
    assert (user, passed) == (65534, "passed")
    assert level in levels.split()
    assert (socket_error, kill_error) == ("PermissionError", "PermissionError")
