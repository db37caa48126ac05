"""Whole runs with the target as a source: its rows, kills and resumes, what is taken over."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from fusechat.cli import main
from fusechat.files import read_json
from fusechat.records import Demonstration, Dropped, Response, Score, Triple
from fusechat.stages.on_policy import reserved_ids
from fusechat.tables import read_dicts, read_table
from on_policy_world import on_policy_recipe
from running import finish, results

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A recipe, an unbroken run of it, and the places that this passed."""
    folder = tmp_path_factory.mktemp("on-policy")
    recipe = on_policy_recipe(folder)
    code, out = finish(recipe, folder / "ws", FUSECHAT_FAULT_LOG=str(folder / "places"))
    assert code == 0, out
    return recipe, folder / "ws", (folder / "places").read_text().split()


def folder_of(workspace: Path, unit: str) -> Path:
    (found,) = workspace.glob(f"{unit}-*")
    return found


def test_the_target_answers_what_was_reserved_and_its_rows_are_triples(
    whole: tuple[Path, Path, list[str]],
) -> None:
    _, workspace, _ = whole
    first, second = (folder_of(workspace, unit) for unit in ("build", "build/on_policy"))
    own = list(read_table(folder_of(workspace, "sample/own") / "data", Response))
    reserved = reserved_ids(first)
    sft = [row.prompt_id for row in read_table(first / "sft", Demonstration)]
    assert (len(sft), len(reserved)) == (8, 12)
    assert {row.prompt_id for row in own} == set(reserved)
    assert len(own) == 3 * len(reserved)

    triples = list(read_table(second / "dpo", Triple))
    dropped = list(read_table(second / "dropped", Dropped))
    assert triples, "the tiny target gave no two responses of other scores"
    assert {row.prompt_id for row in triples} | {row.prompt_id for row in dropped} == set(reserved)
    assert len(triples) + len(dropped) == len(reserved)
    texts = {row.id: row.text for row in own}
    for row in triples:
        assert (row.target_chosen, row.rejected) == (
            texts[row.target_chosen_id], texts[row.rejected_id],
        )  # fmt: skip
        assert row.target_source == "own"
        assert row.source in ("one", "two")
    trained = read_json(folder_of(workspace, "train/dpo") / "manifest.json")["counts"]
    assert trained["rows"] + trained["dropped"] + trained.get("held_out", 0) == len(triples)


def test_the_annotator_judges_the_target_in_a_unit_of_its_own_under_its_own_name(
    whole: tuple[Path, Path, list[str]],
) -> None:
    _, workspace, _ = whole
    scores = list(read_table(folder_of(workspace, "annotate/length@own") / "data", Score))
    own = read_dicts(folder_of(workspace, "sample/own") / "data", ["id"])
    assert [row.response_id for row in scores] == [row["id"] for row in own]
    assert {row.annotator for row in scores} == {"length"}


def test_another_margin_samples_and_scores_and_trains_no_sft_again(
    whole: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace, _ = whole
    command = ["check", str(recipe), "--workspace", str(workspace), "--json"]
    assert main([*command, "--set", "build.chat.dpo.min_margin=0.02"]) == 0
    units = json.loads(capsys.readouterr().out)["units"]
    todo = [unit["unit"] for unit in units if unit["state"] != "done"]
    assert todo[:2] == ["build/on_policy", "train/dpo"]
    assert all(name.startswith("select/") for name in todo[2:])


def test_a_renamed_trained_source_keeps_its_rows(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    """Its model is the same weights, so that each row is adopted and none is sampled again."""
    recipe, unbroken, _ = whole
    workspace = Path(shutil.copytree(unbroken, tmp_path / "ws"))
    tree = yaml.safe_load(recipe.read_text())
    tree["sources"] = {("self" if n == "own" else n): e for n, e in tree["sources"].items()}
    tree["build"]["chat"]["dpo"]["target"] = "self"
    renamed = recipe.with_name("renamed.yaml")
    renamed.write_text(yaml.safe_dump(tree, sort_keys=False))
    only = ["--only", "build/on_policy", "--quiet"]
    assert main(["run", str(renamed), "--workspace", str(workspace), *only]) == 0
    for unit, rows in (("sample/self", "responses"), ("annotate/length@self", "scores")):
        counts = read_json(folder_of(workspace, unit) / "manifest.json")["counts"]
        assert counts["adopted"] == counts[rows] > 0


def test_the_commands_show_both_builds(
    whole: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace, _ = whole
    at = ["--workspace", str(workspace)]
    assert main(["show", "build/on_policy", *at, "--limit", "1"]) == 0
    assert "source_chosen" in capsys.readouterr().out
    assert main(["show", "build", "--table", "reserved", *at]) == 0
    assert "12 rows of build reserved" in capsys.readouterr().out
    assert main(["list", "strategies"]) == 0
    assert "source_over_target" in capsys.readouterr().out
    assert main(["status", *at]) == 0
    assert "build/on_policy" in capsys.readouterr().out
    assert main(["plan", str(recipe), *at]) == 0
    assert "sample/own" in capsys.readouterr().out
    assert main(["report", str(recipe), *at]) == 0


def test_a_reserved_prompt_is_laid_open_with_what_the_target_said(
    whole: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, workspace, _ = whole
    row = next(iter(read_table(folder_of(workspace, "build/on_policy") / "dpo", Triple)))
    at = ["--prompt", row.prompt_id, "--workspace", str(workspace), "--json"]
    assert main(["show", "build", *at]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["placed"]["reserved"]
    assert [one["rejected_id"] for one in found["placed"]["dpo"]] == [row.rejected_id]
    assert set(found["strategies"]["sft"]["sources"]) == {"one", "two"}  # own is not asked there
    assert "own" in found["strategies"]["dpo"]["sources"]
    picked = {one["response_id"]: one["picked"] for one in found["responses"] if one["picked"]}
    assert picked[row.rejected_id] == ["dpo rejected"]
    assert picked[row.target_chosen_id] == ["dpo target chosen"]
    assert "dpo source chosen" in picked[row.source_chosen_id]
    assert main(["show", "build/on_policy", *at[:-1]]) == 0
    assert "In DPO by the rule filter_then_share" in capsys.readouterr().out


def test_a_prompt_whose_target_has_not_answered_yet_is_said_to_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace = on_policy_recipe(tmp_path), tmp_path / "ws"
    at = ["--workspace", str(workspace)]
    assert main(["run", str(recipe), *at, "--only", "build", "--quiet"]) == 0
    assert "8 sft, 12 prompts reserved" in capsys.readouterr().out
    prompt = reserved_ids(folder_of(workspace, "build"))[0]
    assert main(["show", "build", "--prompt", prompt, *at]) == 0
    said = capsys.readouterr().out
    assert "Reserved for DPO by the rule filter_then_share" in said
    assert "source_over_target" not in said
    changed = ["--set", "build.chat.split.sft_share=0.5"]
    assert main(["what-if", str(recipe), *at, *changed]) == 0
    said = capsys.readouterr().out
    assert "not looked at: the DPO rows of chat, which wait for a trained source" in said
    assert "prompts that move: 2 DPO -> SFT" in said


def test_a_target_that_gives_no_triple_is_said_with_the_commonest_reasons(
    whole: tuple[Path, Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, unbroken, _ = whole
    workspace = shutil.copytree(unbroken, tmp_path / "ws")
    wide = ["--set", "build.chat.dpo.min_margin=9.0", "--only", "train/dpo", "--quiet"]
    assert main(["run", str(recipe), "--workspace", str(workspace), *wide]) == 1
    said = capsys.readouterr().err
    assert "the data set is empty" in said
    assert "target: gap below min_margin" in said
    assert "build/on_policy" in said


def test_what_if_looks_at_the_rows_of_the_reserved_prompts(
    whole: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace, _ = whole
    triples = list(read_table(folder_of(workspace, "build/on_policy") / "dpo", Triple))
    wide = sum((row.margin or 0) >= 0.03 for row in triples)
    command = ["what-if", str(recipe), "--workspace", str(workspace), "--json"]
    assert main([*command, "--set", "build.chat.dpo.min_margin=0.03"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unchanged"] == ["chat"]  # what is split before does not know of it
    yields = found["domains"]["chat (on-policy)"]["yields"]
    assert (yields["now"]["dpo"], yields["what-if"]["dpo"]) == (len(triples), wide)


def test_triples_are_in_the_pool_and_no_pairs_for_trl(
    whole: tuple[Path, Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, workspace, _ = whole
    at = ["--workspace", str(workspace)]
    assert main(["export", "--to", "trl", *at, str(tmp_path / "trl")]) == 2
    assert "holds triples, for which TRL has no trainer" in capsys.readouterr().err
    assert not (tmp_path / "trl" / "sft.jsonl").exists()
    assert main(["export", "--to", "pool", *at, str(tmp_path / "pool")]) == 0


def kill_and_compare(whole: tuple[Path, Path, list[str]], broken: Path, moments: list[int]) -> None:
    recipe, unbroken, _ = whole
    for moment in moments:
        code, out = finish(recipe, broken, FUSECHAT_KILL_AT=f"*:{moment}")
        assert code in (0, -signal.SIGKILL), out
    code, out = finish(recipe, broken)
    assert code == 0, out
    there, here = results(unbroken), results(broken)
    assert here.keys() == there.keys()
    assert [name for name, data in there.items() if here[name] != data] == []


def moment_of(places: list[str], share: float) -> int:
    """The place at this share of those after the first training began."""
    begun = places.index("train.step")
    return begun + int(share * (len(places) - begun))


def test_a_run_killed_after_the_sft_training_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    whole_places = whole[2]
    kill_and_compare(whole, tmp_path / "ws", [moment_of(whole_places, 0.6)])


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    draw = random.Random(6)
    moments = [moment_of(whole[2], draw.uniform(0, 0.4)), *(draw.randint(12, 40) for _ in range(7))]
    kill_and_compare(whole, tmp_path / "ws", moments)
