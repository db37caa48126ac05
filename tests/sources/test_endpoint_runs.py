"""Whole runs against a scripted server: killed with -9 and resumed, nothing lost or asked twice."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import yaml
from tests.serving.served import SayingEngine, running

from endpoint_stub import Stub, serving
from fusechat.parts import Where
from fusechat.planner import plan, standing
from fusechat.recipe import Cluster, load_recipe
from fusechat.records import Response
from fusechat.serving.faults import FaultRule, Faults
from fusechat.tables import read_table
from fusechat.unit_contexts import where_of
from running import finish, results, start

PROMPTS, SAMPLES, IN_FLIGHT = 60, 3, 4
RECIPE = """
name: endpoint
seed: 3
prompts: {{set: {{use: files, path: prompts.jsonl, domain: chat}}}}
sources:
  one:
    {{use: endpoint, model: m, base_url: "{url}", samples: {samples}, concurrency: {flight},
      api_key_env: STUB_KEY}}
annotators:
  length: {{use: length}}
build:
  chat:
    split: {{rule: filter_then_share, sft_share: 0.4}}
    sft: {{use: best_of, by: length}}
    dpo: {{use: same_source_margin, by: length, min_margin: 0.0, max_margin: 9.0}}
"""
KEY = "sk-kept-nowhere-8861"


def test_a_killed_run_resumes_to_the_same_rows_and_asks_again_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    lines = (f'{{"prompt": "question number {i}"}}\n' for i in range(PROMPTS))
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    stub = Stub(lambda number, body: {"wait": 0.05}, key=KEY)
    with serving(stub) as (url,):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(RECIPE.format(url=url, samples=SAMPLES, flight=IN_FLIGHT))
        code, out = finish(recipe, tmp_path / "whole", STUB_KEY=KEY)
        assert code == 0, out
        assert len(stub.seen) == PROMPTS
        stub.seen.clear()
        with start(recipe, tmp_path / "broken", STUB_KEY=KEY) as process:
            while len(stub.seen) < PROMPTS // 2:
                assert process.poll() is None
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
        assert len(stub.seen) < PROMPTS
        code, out = finish(recipe, tmp_path / "broken", STUB_KEY=KEY)
        assert code == 0, out
    whole, broken = results(tmp_path / "whole"), results(tmp_path / "broken")
    assert whole == broken
    # Of answers that were under way from the server to the journal there may be as many again.
    assert PROMPTS <= len(stub.seen) <= PROMPTS + 2 * IN_FLIGHT
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def write_recipe(folder: Path, urls: tuple[str, ...], **settings: object) -> Path:
    """The recipe above over some servers, with more settings of its source."""
    tree = yaml.safe_load(RECIPE.format(url="http://x", samples=SAMPLES, flight=IN_FLIGHT))
    source = tree["sources"]["one"]
    del source["base_url"], source["api_key_env"]
    source |= {"base_urls": list(urls), "backoff": 0.02, **settings}
    lines = (f'{{"prompt": "question number {i}"}}\n' for i in range(PROMPTS))
    (folder / "prompts.jsonl").write_text("".join(lines))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(tree))
    return path


def responses(workspace: Path) -> list[Response]:
    (folder,) = workspace.glob("sample/one-*")
    return list(read_table(folder / "data", Response))


def state(recipe: Path, workspace: Path) -> str:
    """What the unit that samples stands at, as the planner sees it."""
    planned = plan(load_recipe(recipe), workspace)
    return standing(planned, planned["sample/one"]).state


def test_processes_of_the_default_do_not_multiply_a_sources_requests_in_flight(
    tmp_path: Path,
) -> None:
    planned = plan(load_recipe(write_recipe(tmp_path, ("http://127.0.0.1:9/v1",))), tmp_path)
    two, four = Where(processes=2), Where(processes=4)
    for executor in ("local", "ray"):
        general = Cluster(executor=executor, default=two)
        assert where_of(planned, planned["sample/one"], general).processes is None
        assert where_of(planned, planned["annotate/length"], general).processes == 2
        own = Cluster(executor=executor, default=two, units={"sample/one": four})
        assert where_of(planned, planned["sample/one"], own).processes == 4


def test_a_source_without_a_server_or_key_is_told_before_anything_runs(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, ())
    tree = json.loads(recipe.read_text())
    tree["sources"]["two"] = tree["sources"]["one"] | {
        "base_urls": ["http://127.0.0.1:9/v1"], "api_key_env": "NO_SUCH_KEY_HERE",
    }  # fmt: skip
    recipe.write_text(json.dumps(tree))
    code, out = finish(recipe, tmp_path / "ws")
    assert code == 1
    assert "sample/one: no server is named for 'm'" in out
    assert "sample/two: the variable NO_SUCH_KEY_HERE is not set" in out
    assert not list((tmp_path / "ws").glob("prompts-*"))


def test_faults_that_pass_cost_no_row_and_change_none_in_a_whole_run(tmp_path: Path) -> None:
    rules = (
        FaultRule(kind="rate_limit", requests="3-6", retry_after=0.05),
        FaultRule(kind="error", requests="10-11", status=500),
        FaultRule(kind="error", requests="16-17", status=503, retry_after=None),
        FaultRule(kind="malformed", requests="22-23"),
        FaultRule(kind="cut", requests="28-29"),
        FaultRule(kind="slow", requests="34", seconds=1.5),
        FaultRule(kind="ignore_n", requests="40-42"),
    )
    with running(SayingEngine(), Faults(*rules)) as bad:
        settings = {"model": SayingEngine.name, "max_new_tokens": 50, "request_timeout": 1.0}
        recipe = write_recipe(tmp_path, (f"http://127.0.0.1:{bad.port}/v1",), **settings)
        code, out = finish(recipe, tmp_path / "ws")
        assert code == 0, out
        met = bad.counts()["faults"]
    assert met.keys() == {rule.kind for rule in rules}
    rows = responses(tmp_path / "ws")
    assert len({(row.prompt_id, row.index) for row in rows}) == len(rows) == PROMPTS * SAMPLES
    assert {row.finish for row in rows} == {"stop"}
    assert [row.text for row in rows] == [f"seed {row.seed} at 0.8" for row in rows]


def test_a_server_replaced_in_mid_run_stops_it_and_the_same_command_goes_on_when_it_is_mended(
    tmp_path: Path,
) -> None:
    replaced_at = PROMPTS // 2
    stub = Stub(lambda number, body: {"model": "other"} if number > replaced_at else None)
    with serving(stub) as urls:
        recipe = write_recipe(tmp_path, urls)
        code, out = finish(recipe, tmp_path / "ws")
        assert code == 1
        assert "the server answered as 'other', not as 'm'" in out
        assert "Traceback" not in out
        assert state(recipe, tmp_path / "ws") == "partial"
        assert len(stub.seen) <= replaced_at + IN_FLIGHT
        asked = len(stub.seen)
        stub.script = lambda number, body: None
        code, out = finish(recipe, tmp_path / "ws")
        assert code == 0, out
        # What the right model answered was on disk: only what was in flight is asked again.
        assert len(stub.seen) - asked <= PROMPTS - replaced_at + 2 * IN_FLIGHT
        code, out = finish(recipe, tmp_path / "whole")
        assert code == 0, out
    assert results(tmp_path / "ws") == results(tmp_path / "whole")
    assert {row.finish for row in responses(tmp_path / "ws")} == {"stop"}
