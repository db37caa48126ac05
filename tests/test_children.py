"""Calls in killable children: values, time-outs, deaths, recycling, orphans."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fusechat
from fusechat.children import KillableChild, KillablePool
from fusechat.errors import PartError

FUNCTIONS = """
import os, signal, time

def double(x):
    return x * 2

def who():
    return os.getpid()

def slowly(x):
    time.sleep(0.3)
    return [x, os.getpid()]

def hang(seconds):
    time.sleep(seconds)

def hold_the_lock():
    return 9 ** 9 ** 9

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_once(mark):
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(3)
    return "lived"

def fail():
    raise KeyError("no")

def chatter(x):
    print("noise on standard output")
    return x

def eat():
    return len(bytearray(1 << 30))
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_value_comes_back_and_the_child_stays_warm() -> None:
    with KillableChild("some_functions:who", timeout=20) as child:
        first, second = child.call(), child.call()
        assert first.ok
        assert first.value == second.value == child.pid != os.getpid()


def test_a_call_that_hangs_is_killed_and_the_next_one_works() -> None:
    with KillableChild("some_functions:hang", timeout=0.5) as child:
        before = child.pid
        assert (child.call(60).kind, child.pid) == ("timeout", None)
        assert child.call(0).ok
        assert child.pid != before


def test_a_call_that_never_lets_go_of_the_interpreter_is_killed_too() -> None:
    with KillableChild("some_functions:hold_the_lock", timeout=0.5) as child:
        assert child.call().reason == "timed out"


def test_a_child_that_died_is_asked_once_more(tmp_path: Path) -> None:
    with KillableChild("some_functions:die_once", timeout=20) as child:
        assert child.call(str(tmp_path / "mark")).value == "lived"


def test_a_call_that_kills_two_children_is_given_up_with_the_signal() -> None:
    with KillableChild("some_functions:die", timeout=20) as child:
        outcome = child.call()
    assert (outcome.ok, outcome.kind, outcome.reason) == (False, "died", "died")
    assert "signal 9" in outcome.details


def test_an_exception_is_told_by_name_and_does_not_end_the_child() -> None:
    with KillableChild("some_functions:fail", timeout=20) as child:
        before = child.pid
        outcome = child.call()
        assert (outcome.kind, outcome.reason) == ("raised", "raised KeyError")
        assert child.pid == before


def test_what_the_function_prints_does_not_disturb_the_answers() -> None:
    with KillableChild("some_functions:chatter", timeout=20) as child:
        assert [child.call(x).value for x in ("a", "b")] == ["a", "b"]


def test_a_megabyte_passes_both_ways() -> None:
    text = "é\ud800" * 500_000
    with KillableChild("some_functions:double", timeout=60) as child:
        assert child.call(text).value == text * 2


def test_the_child_is_replaced_after_the_agreed_number_of_calls() -> None:
    with KillableChild("some_functions:who", timeout=20, recycle=2) as child:
        pids = [child.call().value for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_memory_is_bounded() -> None:
    with KillableChild("some_functions:eat", timeout=20, memory_mb=512) as child:
        assert child.call().reason == "raised MemoryError"


def test_a_target_that_cannot_be_imported_is_an_error_that_names_it() -> None:
    with pytest.raises(PartError, match="no_such_module"), KillableChild("no_such_module:f", 1):
        pass


def test_the_child_dies_with_its_parent_even_while_it_works() -> None:
    script = (
        "import sys, threading, time\nfrom fusechat.children import KillableChild\n"
        "child = KillableChild('some_functions:hold_the_lock', timeout=60).__enter__()\n"
        "print(child.pid, flush=True)\n"
        "child.call()\n"
    )
    paths = [str(Path(fusechat.__file__).parent.parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    time.sleep(0.5)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert _gone(pid)


def test_a_pool_answers_every_call_and_shares_them_among_its_children() -> None:
    with KillablePool("some_functions:slowly", 20, 3) as pool:
        futures = [pool.submit(n) for n in range(9)]
        outcomes = [future.result() for future in futures]
    assert [outcome.value[0] for outcome in outcomes] == list(range(9))
    assert 1 < len({outcome.value[1] for outcome in outcomes}) <= 3


def test_a_pool_lives_on_after_a_hanging_and_a_dying_call(tmp_path: Path) -> None:
    with KillablePool("some_functions:hang", 0.5, 2) as pool:
        futures = [pool.submit(seconds) for seconds in (60, 0, 60, 0)]
        assert [future.result().reason for future in futures] == ["timed out", "", "timed out", ""]
    with KillablePool("some_functions:die_once", 20, 2) as pool:
        marks = [str(tmp_path / f"mark{n}") for n in range(4)]
        assert [f.result().value for f in [pool.submit(m) for m in marks]] == ["lived"] * 4


def test_children_outlive_the_thread_that_asked_for_them() -> None:
    """Linux ends a child with the thread that started it; the pool's own threads do."""
    pids = []
    with KillablePool("some_functions:who", 20, 1) as pool:
        for _ in range(3):
            asker = threading.Thread(target=lambda: pids.append(pool.call().value))
            asker.start()
            asker.join()
    assert len(set(pids)) == 1


def test_closing_a_pool_ends_its_children_while_they_work() -> None:
    with KillablePool("some_functions:hold_the_lock", 60, 2) as pool:
        futures = [pool.submit() for _ in range(4)]
        time.sleep(0.5)
        pids = [child.pid for child in pool._children]
    assert all(future.cancelled() or future.result().kind == "died" for future in futures)
    assert all(_gone(pid) for pid in pids if pid)


def test_a_pool_whose_target_cannot_be_imported_says_so_at_once() -> None:
    with pytest.raises(PartError, match="no_such_module"), KillablePool("no_such_module:f", 1, 2):
        pass


def _gone(pid: int) -> bool:
    for _ in range(200):
        command = Path(f"/proc/{pid}/cmdline")
        if not command.exists() or b"fusechat.children" not in command.read_bytes():
            return True
        time.sleep(0.1)
    return False
