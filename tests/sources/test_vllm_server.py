"""The life of a managed server, with `vllm_stand_in.py` in place of vLLM (which needs a GPU)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import PartError, SourceError
from fusechat.parts import Where
from fusechat.records import Prompt, Request, Response
from fusechat.sources._vllm_command import EngineSettings
from fusechat.sources._vllm_server import server_environment
from fusechat.sources._vllm_watch import Surviving, Watch, serving

STAND_IN = Path(__file__).resolve().parent.parent / "vllm_stand_in.py"
COMMAND = (sys.executable, "-S", str(STAND_IN))

Misbehave = Callable[..., None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Misbehave:
    """Say how the stand-in behaves; its diary is in `tmp_path`, and logs go there, too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def say(**how: Any) -> None:
        monkeypatch.setenv("STAND_IN", json.dumps({"state": str(tmp_path), **how}))

    say()
    return say


def serve(model: str = "org/model", **settings: Any) -> Any:
    made = EngineSettings(command=COMMAND, start_timeout=60.0).model_copy(update=settings)
    return serving(made, Where(), model, model)


def diary(folder: Path) -> list[tuple[str, str]]:
    """(what, model) in order."""
    words = [line.split() for line in (folder / "diary").read_text().splitlines()]
    return [(what, model) for what, _, model in words]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(true: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about within a minute")


def ask(watch: Watch, request: Request) -> Any:
    """One request, one try: the plainest client there is."""
    connection = http.client.HTTPConnection("127.0.0.1", watch.server.port, timeout=30)
    body = {"model": watch.server.name, "messages": request.prompt.chat(), "seed": request.seed}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException) as error:
        return request.failure(f"no answer: {type(error).__name__}")
    finally:
        connection.close()
    return request.response(answer["choices"][0]["message"]["content"], "stop")


def requests(count: int) -> list[Request]:
    return [
        Request(prompt=Prompt.of(f"q{i}", domain="d"), source="s", index=0, seed=i, model="m",
                made_from=f"m{i}")
        for i in range(count)
    ]  # fmt: skip


def sampled(watch: Watch, rows: list[Request]) -> Iterator[Any]:
    def work(asked: Iterator[Any]) -> Iterator[Any]:
        for request in asked:
            yield ask(watch, request)

    return Surviving(work, watch)(iter(rows))


def sample(watch: Watch, rows: list[Request]) -> list[Any]:
    return list(sampled(watch, rows))


def test_four_sources_take_turns_and_never_run_at_once(tmp_path: Path, stand_in: Misbehave) -> None:
    stand_in(ready_after=0.2)
    for model in ("a", "b", "c", "d"):
        with serve(model) as watch:
            assert [r.text for r in sample(watch, requests(2))] == ["Q0 0+0", "Q1 1+0"]
    turns = [(what, model) for model in "abcd" for what in ("start", "stop")]
    assert diary(tmp_path) == turns
    assert not list(tmp_path.glob("fusechat-vllm-*"))


def test_a_crash_at_the_start_shows_the_status_the_end_of_the_log_and_a_mend(
    stand_in: Misbehave,
) -> None:
    stand_in(crash="loading\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(PartError) as told, serve():
        pass
    assert "ended before it could serve (status 3)" in str(told.value)
    assert "  torch.OutOfMemoryError: CUDA out of memory" in str(told.value)
    assert "raise tensor_parallel_size" in str(told.value)


def test_a_taken_port_is_left_for_another_one_a_few_times(
    tmp_path: Path, stand_in: Misbehave
) -> None:
    stand_in(crash="OSError: [Errno 98] Address already in use")
    with pytest.raises(PartError, match="ddress already in use"), serve():
        pass
    assert diary(tmp_path) == [("start", "org/model")] * 3


def test_a_missing_program_is_told_with_what_to_install() -> None:
    settings = EngineSettings(command=("/nowhere/vllm",))
    with (
        pytest.raises(PartError, match=r"environment of its own .*pip install vllm"),
        serving(settings, Where(), "m", "m"),
    ):
        pass


def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path, stand_in: Misbehave) -> None:
    stand_in(ready_after=600)
    with pytest.raises(PartError, match="not ready after 1 s"), serve(start_timeout=1.0):
        pass
    assert diary(tmp_path) == [("start", "org/model"), ("stop", "org/model")]


def test_a_server_of_another_model_is_refused(stand_in: Misbehave) -> None:
    stand_in(wrong_name="other")
    with pytest.raises(PartError, match=r"serves \['other'\], not 'org/model'"), serve():
        pass


def test_a_stop_reaches_what_ignores_it_and_what_has_left_its_group(
    tmp_path: Path, stand_in: Misbehave
) -> None:
    stand_in(grandchild=True, ignore_sigterm=True)
    with serve() as watch:
        grandchild = int((tmp_path / "grandchild").read_text())
        assert alive(grandchild)
        watch._closing.set()  # else it would start the server again
        watch._thread.join()
        watch.server.end(seconds=0.5)
        assert not alive(grandchild)
    (started,) = (tmp_path / "diary").read_text().splitlines()
    assert not alive(int(started.split()[1]))


def test_rows_that_a_dying_server_took_with_it_are_asked_again(
    tmp_path: Path, stand_in: Misbehave
) -> None:
    stand_in(die_after=3)
    with serve() as watch:
        found = sample(watch, requests(6))
    assert sorted(r.text for r in found) == [f"Q{i} {i}+0" for i in range(6)]
    assert [what for what, _ in diary(tmp_path)] == ["start", "start", "stop"]


def test_a_server_that_keeps_dying_stops_the_source_and_blames_no_row(
    tmp_path: Path, stand_in: Misbehave
) -> None:
    stand_in(die_after=2, always=True)
    with serve(restarts=1) as watch:
        found: list[Response] = []
        with pytest.raises(SourceError, match="killed by signal 9") as told:
            found.extend(sampled(watch, requests(6)))
    assert [(r.text, r.error) for r in found] == [("Q0 0+0", None), ("Q2 2+0", None)]
    assert "died 2 times" in str(told.value)
    assert [what for what, _ in diary(tmp_path)] == ["start", "start"]


def test_kill_9_of_the_worker_leaves_no_process(tmp_path: Path, stand_in: Misbehave) -> None:
    stand_in(grandchild=True, ignore_sigterm=True)
    script = (
        "import sys, time\n"
        "from fusechat.parts import Where\n"
        "from fusechat.sources._vllm_command import EngineSettings\n"
        "from fusechat.sources._vllm_watch import serving\n"
        f"with serving(EngineSettings(command={COMMAND!r}), Where(), 'm', 'm') as watch:\n"
        "    print(watch.server._keeper.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    ) as worker:
        assert worker.stdout is not None
        keeper = int(worker.stdout.readline())
        (line,) = (tmp_path / "diary").read_text().splitlines()
        server, grandchild = int(line.split()[1]), int((tmp_path / "grandchild").read_text())
        assert alive(server)
        assert alive(grandchild)
        worker.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, (keeper, server, grandchild))), "the end of them all")


def test_what_is_meant_for_our_workers_does_not_reach_the_server() -> None:
    """Our PYTHONPATH in vLLM's own environment would bring in our torch."""
    given = server_environment({"PYTHONPATH": "ours", "OMP_NUM_THREADS": "1", "HF_TOKEN": "t"})
    assert given == {"HF_TOKEN": "t", "VLLM_NO_USAGE_STATS": "1"}
