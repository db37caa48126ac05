"""Runs: nothing twice, nothing lost, the same bytes after a kill, and one run at a time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import FusechatError, TooManyErrorsError, WorkspaceBusyError
from fusechat.locks import workspace_lock
from fusechat.planner import plan
from fusechat.recipe import Recipe, load_recipe
from fusechat.runner import Options, RunResult, run
from fusechat.unit_folders import begin_again
from running import finish, results, start

RECIPE = """\
name: small
prompts:
  hello: {{use: files, path: prompts.jsonl, domain: chat}}
sources:
  one: {{use: 'outside_parts:Naughty', how: raise, tally: {tally}, samples: {samples}}}
{more}
annotators:
  length: {{scale: {scale}}}
build:
  chat:
    split: {{rule: filter_then_share}}
    sft: {{use: best_of, by: length}}
    dpo: {{use: same_source_margin, by: length, min_margin: {margin}, max_margin: 1.0}}
max_error_share: {share}
"""


class Lab:
    """A recipe folder whose source keeps a tally of its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tally = folder, folder / "tally"
        self.words = [f"word{i}" for i in range(6)]

    def run(self, options: Options | None = None, **changes: Any) -> RunResult:
        values = {"samples": 3, "more": "", "scale": 100.0, "margin": 0.0, "share": 0.01} | changes
        rows = "".join(json.dumps({"prompt": word}) + "\n" for word in self.words)
        (self.folder / "prompts.jsonl").write_text(rows)
        (self.folder / "r.yaml").write_text(RECIPE.format(tally=self.tally, **values))
        self.tally.unlink(missing_ok=True)
        return run(load_recipe(self.folder / "r.yaml"), self.folder / "ws", options=options)

    def calls(self) -> int:
        return len(self.tally.read_text().splitlines()) if self.tally.exists() else 0


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_second_run_does_nothing(lab: Lab) -> None:
    assert lab.run().ran == ("prompts", "sample/one", "annotate/length", "build")
    assert lab.run().ran == ()


def test_from_3_to_5_samples_asks_for_two_more_a_prompt(lab: Lab) -> None:
    lab.run()
    assert lab.calls() == 18
    result = lab.run(samples=5)
    assert lab.calls() == 12
    assert len(list(result["sample/one"].rows())) == 30
    assert result["annotate/length"].manifest["counts"]["adopted"] == 18


def test_more_prompts_cost_only_themselves(lab: Lab) -> None:
    lab.run()
    lab.words.insert(2, "a new one")
    lab.run()
    assert lab.calls() == 3


def test_a_further_source_samples_only_itself(lab: Lab) -> None:
    lab.run()
    result = lab.run(more="  two: {use: echo, samples: 3}")
    assert lab.calls() == 0
    assert result.ran == ("sample/two", "annotate/length", "build")
    assert result["annotate/length"].manifest["counts"]["adopted"] == 18


def test_a_new_margin_runs_only_build_and_says_what_changed(lab: Lab) -> None:
    lab.run()
    lab.run(margin=0.0)
    recipe = load_recipe(lab.folder / "r.yaml", {"build.chat.dpo.min_margin": 0.05})
    planned = plan(recipe, lab.folder / "ws")
    assert "min_margin changed 0.0 -> 0.05" in planned.standing(planned["build"]).why
    assert lab.run(margin=0.05).ran == ("build",)


def test_a_new_annotator_setting_scores_again_and_samples_nothing(lab: Lab) -> None:
    lab.run()
    result = lab.run(scale=50.0)
    assert (lab.calls(), result.ran) == (0, ("annotate/length", "build"))
    assert result["annotate/length"].manifest["counts"]["adopted"] == 0


def test_a_renamed_source_takes_its_rows_along(lab: Lab) -> None:
    lab.run()
    text = (lab.folder / "r.yaml").read_text().replace("  one:", "  uno:")
    (lab.folder / "r.yaml").write_text(text)
    result = run(load_recipe(lab.folder / "r.yaml"), lab.folder / "ws")
    assert lab.calls() == 18  # those of the first run
    assert {row.source for row in result["sample/uno"].rows()} == {"uno"}


def test_too_many_failed_rows_stop_the_unit_and_name_the_reason(lab: Lab) -> None:
    lab.words[0] = "bad word"
    with pytest.raises(TooManyErrorsError, match=r"3 of 18 rows failed \(16.7%") as caught:
        lab.run()
    assert "3 x RuntimeError: no such luck" in str(caught.value)
    lab.run(share=0.2)
    assert lab.calls() == 0  # every row, the failed ones too, was kept


def test_a_broken_source_is_stopped_early_and_its_rows_are_kept(lab: Lab) -> None:
    """300 rows that all fail: some 50 are enough to know; a higher share goes on from there."""
    lab.words = [f"bad word{i}" for i in range(100)]
    with pytest.raises(TooManyErrorsError, match=r"of 300 rows failed"):
        lab.run()
    (journal,) = (lab.folder / "ws").glob("sample/one-*/journal/*.jsonl")
    kept = len(journal.read_text().splitlines())
    assert 50 < kept < 150
    lab.run(share=1.0)
    calls = Counter(lab.tally.read_text().splitlines())
    assert len(calls) == 300 - kept


def test_retry_errors_asks_only_for_the_failed_rows_again(lab: Lab) -> None:
    lab.words[0] = "bad word"
    lab.run(share=0.2)
    result = lab.run(options=Options(retry_errors=True), share=0.2)
    assert Counter(line.split()[0] for line in lab.tally.read_text().splitlines()).keys() == {"bad"}
    assert "sample/one" in result.ran


def test_a_failed_response_is_neither_chosen_nor_rejected(lab: Lab) -> None:
    lab.words[0] = "bad word"
    result = lab.run(share=0.2)
    dropped = list(result["build"].rows("dropped"))
    bad = next(p.id for p in result["prompts"].rows("prompts") if "bad" in p.messages[0].content)
    assert [row.prompt_id for row in dropped if row.reason == "no whole response"] == [bad]


def test_a_refreshed_source_makes_what_follows_stale(lab: Lab) -> None:
    lab.run()
    result = lab.run(options=Options(refresh="sample/one"))
    assert lab.calls() == 18
    assert result.ran == ("sample/one",)  # the same bytes came out, so nothing follows


def test_a_refreshed_source_adopts_nothing_of_the_time_before(lab: Lab) -> None:
    lab.run(samples=2)
    lab.run(samples=3)
    assert lab.calls() == 6
    lab.run(samples=3, options=Options(refresh="sample/one"))
    assert lab.calls() == 18
    lab.run(samples=3)
    assert lab.calls() == 0


def test_a_refresh_killed_while_it_removes_or_samples_goes_on_without_the_old_rows(
    lab: Lab,
) -> None:
    lab.run(samples=2)
    result = lab.run(samples=3)
    folder = result["sample/one"].folder
    (folder / "refreshed").write_bytes(b"removing")
    assert lab.run(samples=3).ran == ("sample/one",)
    assert lab.calls() == 18
    assert not (folder / "refreshed").exists()
    begin_again(folder)  # all is removed, and then a kill
    lab.run(samples=3)
    assert lab.calls() == 18


def test_the_order_of_sources_and_of_prompt_sets_is_part_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    (tmp_path / "q.jsonl").write_text('{"prompt": "b"}\n{"prompt": "c"}\n')
    sets = [f"  {name}: {{use: files, path: {name}.jsonl, domain: chat}}\n" for name in "pq"]
    sources = [f"  {name}: {{use: echo, prefix: '{name} '}}\n" for name in ("one", "two")]

    def ordered(step: int) -> RunResult:
        text = f"name: order\nprompts:\n{''.join(sets[::step])}"
        text += f"sources:\n{''.join(sources[::step])}annotators:\n  length: {{scale: 1.0e+6}}\n"
        text += "build:\n  chat:\n    split: {rule: sft_only}\n    sft: {use: best_of, by: null}\n"
        (tmp_path / "r.yaml").write_text(text)
        return run(load_recipe(tmp_path / "r.yaml"), tmp_path / "ws")

    ordered(1)
    result = ordered(-1)
    assert [row.origin for row in result["prompts"].rows("prompts")] == ["q", "q", "p"]
    assert {row.source for row in result["build"].rows("sft")} == {"two"}


def test_a_unit_half_done_in_another_order_of_sources_loses_and_doubles_no_row(
    lab: Lab,
) -> None:
    """Its first shard holds the first source's rows, which now belong to the second one."""
    lab.words = [f"word{i}" for i in range(600)]
    two = "  two: {use: echo}"
    options = Options(only="annotate")
    folder = lab.run(samples=2, more=two, options=options)["annotate/length"].folder
    (folder / "manifest.json").unlink()
    (folder / "data" / "00001.parquet").unlink()
    text = (lab.folder / "r.yaml").read_text()
    one = next(line for line in text.splitlines() if line.startswith("  one:"))
    (lab.folder / "r.yaml").write_text(text.replace(f"{one}\n{two}", f"{two}\n{one}"))
    again = run(load_recipe(lab.folder / "r.yaml"), lab.folder / "ws", options=options)
    judged = Counter(row.response_id for row in again["annotate/length"].rows())
    asked = [row.id for name in ("one", "two") for row in again[f"sample/{name}"].rows()]
    assert judged == Counter(asked)


def test_a_users_file_named_as_a_standard_module_does_not_reach_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('not the standard library')")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate(
        {
            "name": "shadow",
            "prompts": {"p": {"use": "files", "path": "p.jsonl", "domain": "chat"}},
            "sources": {"a": {"use": "echo"}},
        }
    )
    assert run(recipe, "ws").ran == ("prompts", "sample/a")


def test_a_refresh_that_only_leaves_out_is_refused(lab: Lab) -> None:
    lab.run()
    with pytest.raises(
        FusechatError, match="--refresh build is not among what --only sample needs"
    ):
        lab.run(options=Options(refresh="build", only="sample"))


def test_only_runs_the_named_unit_and_what_it_needs(lab: Lab) -> None:
    assert lab.run(options=Options(only="sample")).ran == ("prompts", "sample/one")


def test_a_second_run_on_the_workspace_is_refused_and_changes_nothing(lab: Lab) -> None:
    with (
        workspace_lock(lab.folder / "ws", "another"),
        pytest.raises(WorkspaceBusyError, match=r"another, process \d+ on .*--wait does so"),
    ):
        lab.run()
    assert not (lab.folder / "ws" / "sample").exists()


def test_duplicate_prompts_are_dropped_with_the_set_that_won(lab: Lab) -> None:
    lab.words += ["word0", "word0"]
    result = lab.run()
    dropped = list(result["prompts"].rows("dropped"))
    assert [row.reason for row in dropped] == ["same prompt as in hello"] * 2
    assert result["prompts"].manifest["counts"]["sets"]["hello"] == {
        "read": 8, "kept": 6, "dropped": {"same prompt as in hello": 2}
    }  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Path:
    return Path(__file__).resolve().parent.parent / "recipes" / "tiny.yaml"


def test_a_data_run_killed_at_five_moments_ends_with_the_bytes_of_an_unbroken_one(
    tiny: Path, tmp_path: Path
) -> None:
    """Five moments drawn from the places that an unbroken run passes, one after the other."""
    log = tmp_path / "places"
    code, out = finish(tiny, tmp_path / "whole", FUSECHAT_FAULT_LOG=str(log))
    assert code == 0, out
    places = Counter(log.read_text().split())
    seed = 20261122
    print("seed", seed, dict(places))
    draw = random.Random(seed)
    names = draw.sample(sorted(places), min(5, len(places)))
    killed = 0
    for name in names:
        moment = f"{name}:{draw.randint(1, max(1, places[name] // 2))}"
        code, _ = finish(tiny, tmp_path / "broken", FUSECHAT_KILL_AT=moment)
        killed += code == -signal.SIGKILL
    assert killed >= 3, "too few of the moments were reached; draw others"
    code, out = finish(tiny, tmp_path / "broken")
    assert code == 0, out
    assert results(tmp_path / "broken") == results(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tiny: Path, tmp_path: Path) -> None:
    process = start(tiny, tmp_path / "ws")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "ws").glob("sample/*/unit.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "The same command goes on from here" in out
    assert "Traceback" not in out
    code, out = finish(tiny, tmp_path / "ws")
    assert code == 0, out
