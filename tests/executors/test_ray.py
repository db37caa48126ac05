"""Rows over Ray actors: the same rows as by processes here, though actors and nodes die."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import MissingExtraError, PartError
from fusechat.executors.contract import Batch
from fusechat.executors.local import LocalExecutor
from fusechat.executors.ray import RayExecutor, actor_needs
from fusechat.parts import RowPart, Source, Where
from fusechat.records import Prompt, Request, Response
from fusechat.sources.echo import Echo
from ray_parts import Deadly, Gone, Paced, PacedTogether

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning:ray", "ignore::ResourceWarning:subprocess"
)


@pytest.fixture(scope="module")
def here() -> Iterator[RayExecutor]:
    """A cluster on this machine with room for two actors."""
    made = RayExecutor({"address": "local", "actors": 2, "max_restarts": 2})
    yield made
    made.close()
    assert not ray.is_initialized()


def requests(texts: list[str]) -> list[Request]:
    return [
        Request(prompt=Prompt.of(text, domain="d"), source="s", index=0, seed=0, model="m",
                made_from=f"m{i}")
        for i, text in enumerate(texts)
    ]  # fmt: skip


def batches(part: RowPart, rows: list[Request], pulled: list[int] | None = None) -> Iterator[Batch]:
    cut = part.cut(rows) or [rows[at : at + 4] for at in range(0, len(rows), 4)]
    for number, piece in enumerate(cut):
        if pulled is not None:
            pulled.append(number)
        yield Batch(list(piece))


def everything(executor: Any, part: Source, rows: list[Request], where: Where = Where()) -> Any:  # noqa: B008
    """All rows, sorted by input; two answers of one row would show as two."""
    groups = executor.map(part, batches(part, rows), where)
    return sorted((row for group in groups for row in group), key=lambda row: row.made_from)


def when(true: Callable[[], Any], act: Callable[[], None]) -> threading.Thread:
    """Do something once, in the background, when it is time."""

    def wait() -> None:
        for _ in range(2400):
            if true():
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_no_cluster_at_an_address_is_told_with_how_to_start_one() -> None:
    assert not ray.is_initialized()  # the first test: others start a cluster
    with pytest.raises(PartError, match="ray start --head"):
        next(RayExecutor({"address": "auto"}).map(Echo(), [], Where()))


def test_an_actor_killed_in_mid_run_costs_no_row_and_doubles_none(
    tmp_path: Path, here: RayExecutor
) -> None:
    part = Paced(pids=str(tmp_path), seconds=0.02)
    rows = requests([f"q{i}" for i in range(120)])
    seen: list[Response] = []
    killed: list[int] = []
    for group in here.map(part, batches(part, rows), Where()):
        seen += group
        if len(seen) >= 12 and not killed:
            killed.append(int(next(tmp_path.iterdir()).name))
            os.kill(killed[0], signal.SIGKILL)
    local = LocalExecutor(processes=1)
    try:
        wanted = everything(local, Paced(pids=str(tmp_path)), rows)
    finally:
        local.close()
    assert sorted(seen, key=lambda row: row.made_from) == wanted
    assert len(list(tmp_path.iterdir())) >= 3  # one of them the local worker's
    assert not any(actor["State"] == "ALIVE" for actor in _actors())


def _actors() -> list[dict[str, Any]]:
    """All actors of the cluster; those that were killed are gone a little later."""
    for _ in range(100):
        found = list(ray._private.state.actors().values())
        if not any(actor["State"] == "ALIVE" for actor in found):
            break
        time.sleep(0.1)
    return found


def test_a_row_that_kills_its_actor_again_and_again_is_found_and_kept_with_that(
    tmp_path: Path, here: RayExecutor
) -> None:
    rows = requests(["q0", "q1", "bad", "q3", "q4", "q5", "q6", "q7"])
    found = everything(here, Deadly(pids=str(tmp_path)), rows)
    assert [row.text for row in found] == ["q0", "q1", "", "q3", "q4", "q5", "q6", "q7"]
    assert found[2].error == "its worker died over it, and then another one"


def test_batches_are_computed_whole_and_pulled_only_as_there_is_room(
    tmp_path: Path, here: RayExecutor
) -> None:
    part = PacedTogether(pids=str(tmp_path))
    pulled: list[int] = []
    groups = here.map(part, batches(part, requests([f"q{i}" for i in range(90)]), pulled), Where())
    first = next(groups)
    assert [row.text.partition(" of ")[2] for row in first] == ["3"] * len(first)
    assert len(pulled) < 30
    assert len(first) + sum(len(group) for group in groups) == 90
    assert len(pulled) == 30


def test_a_part_that_cannot_open_stops_the_run_with_its_own_words(here: RayExecutor) -> None:
    with pytest.raises(PartError, match="FileNotFoundError"):
        everything(here, Paced(pids="/nowhere/at/all"), requests(["q"]))


def test_a_source_whose_server_is_gone_stops_and_the_rows_before_are_there(
    tmp_path: Path, here: RayExecutor
) -> None:
    part = Gone(mended=str(tmp_path / "mended"))
    seen: list[Response] = []
    rows = requests([f"q{i}" for i in range(40)])
    groups = here.map(part, batches(part, rows), Where(processes=1))
    with pytest.raises(PartError, match="the server is gone; start it again"):
        seen.extend(itertools.chain.from_iterable(groups))
    assert [row.text for row in seen] == [f"Q{i}" for i in range(part.good)]


def test_an_actor_that_no_node_holds_is_refused_with_what_there_is(here: RayExecutor) -> None:
    alone = RayExecutor({"address": "local", "actors": None, "max_restarts": 0})
    where = Where(resources={"GPU": 64, "rack": 1})
    with pytest.raises(PartError, match=r"'GPU': 64.0, 'rack': 1.0.*the nodes have .*'CPU'"):
        everything(alone, Echo(), requests(["q"]), where)


def test_a_key_of_a_server_reaches_the_actor_and_not_the_runtime_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fusechat.executors.ray import _secrets, _variables

    monkeypatch.setenv("THE_KEY", "very secret")
    where = Where(api_key_env="THE_KEY")
    assert _secrets(Echo(), where)["THE_KEY"] == "very secret"
    assert "very secret" not in str(_variables(where))


def test_what_an_actor_needs_is_what_the_cluster_file_says_of_the_unit() -> None:
    told = Where(resources={"CPU": 4, "GPU": 1, "rack": 0.5})
    assert actor_needs(Echo(), told, {}) == {
        "num_cpus": 4, "num_gpus": 1, "resources": {"rack": 0.5}
    }  # fmt: skip
    assert actor_needs(Echo(), Where(gpus=8, processes=4, threads=2), {"GPU": 8}) == {
        "num_cpus": 2.0, "num_gpus": 2.0, "resources": {}
    }  # fmt: skip
    assert actor_needs(Echo(), Where(), {"GPU": 8})["num_gpus"] == 0


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fusechat\[ray\]'"):
        next(RayExecutor({"address": "local"}).map(Echo(), [], Where()))


def test_ray_is_not_imported_with_the_executor() -> None:
    import subprocess

    code = "import sys, fusechat.executors.ray; sys.exit('ray' in sys.modules)"
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    environment = os.environ | {"PYTHONPATH": paths}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.slow
def test_an_actor_killed_and_a_node_removed_in_mid_run_give_the_rows_of_the_local_run(
    tmp_path: Path, here: RayExecutor
) -> None:
    from ray.cluster_utils import Cluster

    here.close()  # one cluster a process
    (tmp_path / "pids").mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=2)
    executor = RayExecutor({"address": cluster.address, "actors": None, "max_restarts": 2})
    part = Paced(pids=str(tmp_path / "pids"), seconds=0.05)
    rows = requests([f"q{i}" for i in range(300)])
    seen: list[Response] = []
    done: list[str] = []
    begun = time.monotonic()
    try:
        for group in executor.map(part, batches(part, rows), Where()):
            seen += group
            if len(seen) >= 30 and not done:
                os.kill(int(next((tmp_path / "pids").iterdir()).name), signal.SIGKILL)
                done.append("actor")
            if len(seen) >= 100 and len(done) == 1:
                threading.Thread(target=cluster.remove_node, args=(second,)).start()
                done.append("node")
    finally:
        print("seconds", time.monotonic() - begun)
        executor.close()
        cluster.shutdown()
    assert done == ["actor", "node"]
    local = LocalExecutor(processes=1)
    try:
        wanted = everything(local, Paced(pids=str(tmp_path / "pids")), rows)
    finally:
        local.close()
    assert sorted(seen, key=lambda row: row.made_from) == wanted
