"""The jail, machines without the means of Linux, and workers that die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import fusechat
from fusechat.errors import PartError
from fusechat.sandbox import Limits, Sandbox
from fusechat.sandbox import box as box_module

linux = pytest.mark.skipif(sys.platform != "linux", reason="these means are Linux's")
SQUARE = "def square(x):\n    return x * x\n"
ELSEWHERE = """
import builtins, ctypes, os, sys, sysconfig
sysconfig.get_config_vars()
sys.platform = 'darwin'
for name in ('pidfd_open', 'memfd_create', 'setresuid', 'setresgid', 'waitid', 'unshare'):
    if hasattr(os, name): delattr(os, name)
class Library:
    def __getattr__(self, name): raise AttributeError(name)
ctypes.CDLL = lambda *a, **k: Library()
def without_proc(call):
    def checked(path='.', *args, **kwargs):
        if str(path).startswith('/proc'): raise FileNotFoundError(path)
        return call(path, *args, **kwargs)
    return checked
import io
builtins.open = io.open = without_proc(io.open)
os.listdir = without_proc(os.listdir)
isdir = os.path.isdir
os.path.isdir = lambda path: not str(path).startswith('/proc') and isdir(path)
"""
"""What a worker finds on macOS, as far as it can be acted on Linux."""


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    *command, start = box_module.worker_command()
    monkeypatch.setattr(box_module, "worker_command", lambda: [*command, ELSEWHERE + start])
    monkeypatch.setattr(box_module, "jail_prefix", lambda *_: None)


def test_a_system_without_the_means_is_refused_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere(monkeypatch)
    with pytest.raises(PartError, match="allow_weak_sandbox: true") as refused, Sandbox():
        pass
    assert "Landlock, seccomp" in str(refused.value)


@pytest.mark.parametrize("strict", [False, True])
def test_a_system_without_the_means_runs_programs_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    elsewhere(monkeypatch)
    limits = Limits(seconds=1, wall_seconds=1.6, output_kb=64)
    with Sandbox(limits, strict=strict, allow_weak=True) as box:
        assert box.level == "weak"
        assert box.run(SQUARE, "assert square(3) == 9").status == "passed"
        assert box.run(SQUARE, "assert square(3) == 8").status == "failed"
        assert box.run("while True: pass", "").status == "timeout"
        assert box.run("import time\ntime.sleep(60)", "").status == "timeout"
        assert box.run("while True: print('x' * 9999)", "").status == "output"
        assert box.run("import os\nos._exit(0)", "square(1)").exception == "early exit"
        script = "if __name__ == '__main__':\n    print(input())"
        assert box.run(script, "assert __run_script__('a') == 'a\\n'").status == "passed"
        if os.geteuid() == 0:
            program = "import os\ndef f(): return os.getuid()"
            assert box.run(program, "assert f() != 0").status == "passed"


def jail_works() -> bool:
    with Sandbox(allow_weak=True) as box:
        return box.level == "jail"


@linux
def test_in_a_jail_there_is_only_python_and_the_worker() -> None:
    if not jail_works():
        pytest.skip("needs a bubblewrap that works here")
    look = (
        "import os\ndef seen():\n    found = []\n"
        "    for place in '/home /etc/passwd /usr/bin /bin /sys /var /root/.ssh'.split():\n"
        "        try: os.stat(place); found.append(place)\n        except OSError: pass\n"
        "    return found\n"
    )
    with Sandbox() as box:
        assert box.means.startswith("bubblewrap")
        assert box.run(look, "assert seen() == [], seen()").message == ""
        assert box.run("import os", "assert os.getppid() == 1").message == ""
    with Sandbox(without=["bubblewrap"]) as box:
        assert box.level != "jail"
        assert box.run(look, "assert '/usr/bin' in seen()").message == ""


@linux
def test_without_landlock_a_jail_is_not_called_one() -> None:
    with Sandbox(without=["landlock"]) as box:
        assert box.level == "network"


@linux
def test_a_bubblewrap_that_fails_leaves_the_other_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Sandbox() as box:
        assert box.level in ("full", "network")
        assert box.run(SQUARE, "assert square(3) == 9").status == "passed"
        assert box._folder is not None
        folder = box._folder
    assert not folder.exists()


@linux
@pytest.mark.parametrize("without", [(), ("bubblewrap",)], ids=["jail", "no-jail"])
@pytest.mark.parametrize("strict", [False, True], ids=["plain", "strict"])
def test_a_worker_killed_under_a_program_costs_one_retry(
    without: tuple[str, ...], strict: bool
) -> None:
    with Sandbox(strict=strict, without=without) as box:
        first = box.pid
        assert first is not None
        children = Path(f"/proc/{first}/task/{first}/children")

        def kill() -> None:
            jailed = "bubblewrap" in box.means
            time.sleep(0.4)
            os.kill(int(children.read_text().split()[0]) if jailed else first, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        verdict = box.run("import time\ndef f(): time.sleep(0.8); return 1", "assert f() == 1")
        killer.join()
        assert (verdict.status, verdict.message) == ("passed", "")
        assert box.pid != first
        assert box.run(SQUARE, "assert square(3) == 9").status == "passed"


@linux
def test_a_worker_that_dies_again_is_an_error_and_the_next_program_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox() as box:
        asked = box._ask

        def die(request: object, deadline: float) -> object:
            if request is not None:
                assert box.pid is not None
                os.killpg(box.pid, signal.SIGKILL)
            return asked(request, deadline)

        monkeypatch.setattr(box, "_ask", die)
        assert box.run(SQUARE, "assert square(3) == 9").status == "error"
        monkeypatch.undo()
        assert box.run(SQUARE, "assert square(3) == 9").status == "passed"


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", ["plain", "strict"])
def test_hostile_programs_are_contained_for_an_ordinary_user(mode: str) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    if python is None or subprocess.run([python, "-c", check]).returncode != 0:
        pytest.skip("needs a Python 3.11 that every user can run")
    script = (
        "import sys\nfrom hostile_programs import ROWS\nfrom fusechat.sandbox import *\n"
        "limits = Limits(seconds=1, wall_seconds=2, memory_mb=256, output_kb=128)\n"
        "with Sandbox(limits, strict=sys.argv[1] == 'strict') as box:\n"
        "    for row in ROWS:\n"
        "        held = box.level in row.needs or any(w in box.means for w in row.needs)\n"
        "        if not held or (row.name.endswith('!') and 'disk' not in row.name): continue\n"
        "        ends = row.ends + ('failed', 'crashed') * (sys.argv[1] == 'strict')\n"
        "        found = box.run(row.program, row.tests)\n"
        "        after = box.run('x = 1', 'assert x == 1')\n"
        "        if found.status not in ends or after.status != 'passed':\n"
        "            print(row.name, found, after)\n"
    )
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shutil.copytree(Path(fusechat.__file__).parent, folder / "fusechat")
        shutil.copy(Path(__file__).parent / "hostile_programs.py", folder)
        folder.chmod(0o755)
        done = subprocess.run(
            [python, "-c", script, mode], user=65534, group=65534, extra_groups=[], cwd=folder,
            capture_output=True, text=True,
            env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    assert (done.stdout, done.stderr) == ("", "")
