"""The whole chain: recipes of tiny models, sound and broken, looked over as a user does."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from tests.doctor.doctor_tokenizers import checks
from tests.doctor.test_probe import Behaviour, serving
from tests.tiny_models import strip_template, tiny_model, tiny_reward_model

from fusechat.cli import main
from fusechat.doctor import Examination, examine
from fusechat.parts import Source
from fusechat.recipe import Cluster, load_recipe
from fusechat.runner import Options, run

ROOT = Path(__file__).resolve().parent.parent.parent


class Served(Source):
    """A source behind a server, as `endpoint` is one; it is only looked at here."""

    io_bound: ClassVar[bool] = True

    model: str
    base_urls: tuple[str, ...] = ()
    api_key_env: str | None = None
    temperature: float = 0.8
    max_new_tokens: int = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models, saved once for all tests here."""
    folder = tmp_path_factory.mktemp("models")
    for family in ("llama", "qwen2", "gemma2"):
        tiny_model(folder / family, family)  # type: ignore[arg-type]
    tiny_reward_model(folder / "reward", "llama")
    return folder


@pytest.fixture
def recipe(models: Path, tmp_path: Path) -> dict[str, Any]:
    """A sound recipe as a tree, its models copied beside it: tests break one thing each."""
    rows = [
        {"messages": [{"role": "user", "content": f"What is {n} + {n}?"}], "answer": str(2 * n)}
        for n in range(8)
    ]
    write_rows(tmp_path, rows)
    shutil.copytree(models, tmp_path / "models")
    source = {"use": "hf", "samples": 2, "max_new_tokens": 32, "dtype": "float32"}
    return {
        "name": "looked-over",
        "target": {"model": "models/llama"},
        "prompts": {"math": {"use": "files", "path": "rows.jsonl", "domain": "math"}},
        "sources": {
            "gemma": {**source, "model": "models/gemma2"},
            "qwen": {**source, "model": "models/qwen2"},
        },
        "annotators": {"reward": {"use": "reward_model", "model": "models/reward",
                                  "dtype": "float32"}},
        "build": {"math": {
            "split": {"rule": "filter_then_share", "sft_share": 0.4},
            "sft": {"use": "best_of", "by": "reward"},
            "dpo": {"use": "same_source_margin", "by": "reward", "min_margin": 0.01},
        }},
        "train": {"sft": {"max_length": 128}, "dpo": {"max_length": 128}},
    }  # fmt: skip


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")


def written(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def looked(folder: Path, tree: dict[str, Any], **options: Any) -> Examination:
    return examine(load_recipe(written(folder, tree)), folder / "workspace", **options)


def at(found: Examination, place: str) -> set[str]:
    return checks(one for one in found.findings if one.place == place)


def test_a_sound_recipe_has_no_fault_and_a_row_for_every_model(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    found = looked(tmp_path, recipe)
    assert found.healthy
    assert [row.place for row in found.models] == [
        "sources.gemma", "sources.qwen", "annotators.reward", "target"
    ]  # fmt: skip
    assert all(row.looked for row in found.models)
    assert at(found, "sources.qwen") == {"note:default-system"}
    assert found.models[-1].date == "fixed"
    assert at(found, "prompts") == {"note:could-not-look"}


def test_all_faults_are_told_at_once_each_at_its_place(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    qwens = (tmp_path / "models" / "qwen2" / "chat_template.jinja").read_text()
    (tmp_path / "models" / "gemma2" / "chat_template.jinja").write_text(qwens)
    reward = tmp_path / "models" / "reward" / "chat_template.jinja"
    reward.write_text("{{ '\\n' }}" + reward.read_text())
    recipe["sources"]["qwen"]["max_new_tokens"] = 4096
    recipe["train"]["sft"]["max_length"] = 4096
    found = looked(tmp_path, recipe)
    assert "fault:control-token-unknown" in at(found, "sources.gemma")
    assert "fault:context-no-room" in at(found, "sources.qwen")
    assert "fault:template-layout" in at(found, "annotators.reward")
    assert "fault:max-length-over-context" in at(found, "train.sft")
    assert not found.healthy


def test_system_prompts_against_a_template_that_refuses_them_are_counted(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1?"}]
    rows = [{"messages": turns[at % 2 :], "answer": f"{at}"} for at in range(1, 2)]
    rows += [{"messages": [turns[0], {"role": "user", "content": f"{at}?"}]} for at in range(3)]
    write_rows(tmp_path, rows)
    before = looked(tmp_path, recipe)
    assert "note:system-refused" in at(before, "sources.gemma")
    run(load_recipe(written(tmp_path, recipe)), tmp_path / "workspace",
        options=Options(only="prompts"))  # fmt: skip
    after = looked(tmp_path, recipe)
    (told,) = (one for one in after.of("fault") if one.place == "sources.gemma")
    assert told.check == "system-refused"
    assert "3 prompts have one" in told.what
    assert "fault:system-refused" not in at(after, "sources.qwen")


def test_real_prompts_are_measured_where_a_run_has_read_them(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    long = "word " * 400  # far more than the tiny models' context of 256 tokens
    rows = [{"messages": [{"role": "user", "content": text}]} for text in ("short?", long)]
    write_rows(tmp_path, rows)
    run(load_recipe(written(tmp_path, recipe)), tmp_path / "workspace",
        options=Options(only="prompts"))  # fmt: skip
    found = looked(tmp_path, recipe)
    assert "fault:prompt-over-context" in at(found, "sources.gemma")
    assert "warning:prompt-over-max-length" in at(found, "train.dpo")
    assert not at(found, "prompts")


def test_a_model_without_files_here_is_never_called_fine(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["sources"]["far"] = {"use": f"{__name__}:Served", "model": "meta-llama/Llama-3-70B"}
    found = looked(tmp_path, recipe)
    (row,) = (row for row in found.models if row.place == "sources.far")
    assert not row.looked
    assert row.system == row.end == row.date == "?"
    assert at(found, "sources.far") == {"note:could-not-look", "warning:licence-forbidden"}


def test_a_servers_answers_are_looked_at_only_with_probe(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["sources"]["far"] = {
        "use": f"{__name__}:Served", "model": "acme/other", "api_key_env": "FAR_KEY",
    }  # fmt: skip
    with serving(Behaviour()) as url:
        cluster = Cluster.model_validate({"units": {"sample/far": {"base_urls": [url]}}})
        quiet = looked(tmp_path, recipe, cluster=cluster)
        assert at(quiet, "sources.far") == {"note:could-not-look"}
        keyless = looked(tmp_path, recipe, cluster=cluster, probe=True)
        assert "fault:server-key" in at(keyless, "sources.far")
        monkeypatch.setenv("FAR_KEY", "secret-word")
        asked = looked(tmp_path, recipe, cluster=cluster, probe=True)
        assert "fault:server-other-model" in at(asked, "sources.far")
        assert "secret-word" not in json.dumps(asked.as_json())


def test_an_endpoint_that_says_the_date_and_names_no_server_is_seen_from_the_hubs_files(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    cached = hub / "models--acme--dated"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    snapshot = cached / "snapshots" / ("0" * 40)
    shutil.copytree(tmp_path / "models" / "llama", snapshot)  # its template writes the date
    (snapshot / "model.safetensors").unlink()  # the weights are on the server
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    source = {"use": "endpoint", "model": "acme/dated", "max_new_tokens": 32}
    recipe["sources"]["dated"] = source
    found = looked(tmp_path, recipe)
    assert {"warning:date-in-prompt", "note:could-not-look"} <= at(found, "sources.dated")
    assert found.models[2].date == "served"
    told = {"chat_template_kwargs": {"date_string": "26 Jul 2024"}}
    recipe["sources"]["dated"] = {**source, "extra_body": told}
    fixed = looked(tmp_path, recipe)
    assert "warning:date-in-prompt" not in at(fixed, "sources.dated")


def test_answers_longer_than_training_are_told_even_where_the_target_is_not_here(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["target"] = {"model": "acme/not-here"}
    recipe["sources"]["gemma"]["max_new_tokens"] = 128
    path = str(written(tmp_path, recipe))
    assert main(["doctor", path, "--workspace", str(tmp_path / "workspace")]) == 0
    text = capsys.readouterr().out
    assert "note    train.sft [answer-over-max-length]" in text
    assert "hf download acme/not-here" in text


def test_a_card_in_the_folder_decides_the_licence(recipe: dict[str, Any], tmp_path: Path) -> None:
    card = tmp_path / "models" / "gemma2" / "README.md"
    card.write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    found = looked(tmp_path, recipe)
    assert "warning:licence-non-commercial" in at(found, "sources.gemma")
    (unknown,) = (one for one in found.findings if one.check == "licence-unknown")
    assert "qwen" in unknown.what
    assert "gemma" not in unknown.what


def test_a_trained_models_changed_template_is_seen_by_evaluation(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    from fusechat.planner import plan

    recipe["evaluate"] = {"tasks": [{"use": "mini_math", "split": "test"}], "max_new_tokens": 32}
    best = {"use": "best_of", "by": "reward"}
    recipe["build"] = {"math": {"split": {"rule": "sft_only"}, "sft": best}}
    del recipe["train"]["dpo"]
    planned = plan(load_recipe(written(tmp_path, recipe)), tmp_path / "workspace")
    trained = planned.path(planned["train/sft"]) / "model"
    shutil.copytree(tmp_path / "models" / "llama", trained)
    assert "fault:stages-differ" not in at(looked(tmp_path, recipe), "target")
    template = trained / "chat_template.jinja"
    template.write_text(template.read_text().replace("Today Date", "Date"))
    assert "fault:stages-differ" in at(looked(tmp_path, recipe), "target")


def test_the_command_ends_with_3_on_a_fault_and_0_without(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--workspace", str(tmp_path / "workspace")]
    path = str(written(tmp_path, recipe))
    assert main(["doctor", path, *flags]) == 0
    text = capsys.readouterr().out
    assert "sources.gemma" in text
    assert "0 faults" in text
    assert main(["doctor", path, *flags, "--set", "sources.qwen.max_new_tokens=4096"]) == 3
    assert "context-no-room" in capsys.readouterr().out
    assert main(["doctor", path, *flags, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["healthy"] is True
    assert read["counts"]["fault"] == 0
    assert main(["doctor", path, *flags, "--set", "sauces=1"]) == 2


def test_a_hub_model_that_is_not_fetched_could_not_be_looked_at(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["sources"]["far"] = {"use": "hf", "model": "acme/not-here"}
    path = str(written(tmp_path, recipe))
    assert main(["doctor", path, "--workspace", str(tmp_path / "workspace"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    told = [one["check"] for one in found if one["place"].startswith("sources.far")]
    assert told == ["could-not-look"]


def test_a_tokenizer_without_template_is_a_fault_once_beside_all_others(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip_template(tmp_path / "models" / "gemma2")
    refuses = tmp_path / "models" / "qwen2" / "chat_template.jinja"
    refuses.write_text("{{ raise_exception('no') }}")
    path = str(written(tmp_path, recipe))
    assert main(["doctor", path, "--workspace", str(tmp_path / "workspace"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)["findings"]
    faults = [(one["place"], one["check"]) for one in found if one["level"] == "fault"]
    assert faults == [("sources.gemma", "model-unusable"), ("sources.qwen", "template-refuses")]


def test_a_recipe_whose_entries_do_not_fit_together_is_refused(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del recipe["build"]
    path = str(written(tmp_path, recipe))
    assert main(["doctor", path, "--workspace", str(tmp_path / "workspace")]) == 2
    assert "train" in capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / "zoo" / "target").is_dir(), reason="needs the zoo")
def test_the_mini_recipe_has_no_fault(tmp_path: Path) -> None:
    found = examine(load_recipe(ROOT / "recipes" / "mini.yaml"), tmp_path)
    assert [str(one) for one in found.of("fault")] == []
    assert all(row.looked for row in found.models)


def test_every_finding_of_the_code_is_explained_in_the_documentation() -> None:
    package = ROOT / "src" / "fusechat" / "doctor"
    named = {"could-not-look", "recipe"}
    named |= {f"system-{role}" for role in ("refused", "dropped", "merged")}
    named |= {f"licence-{said}" for said in ("conditions", "non-commercial", "forbidden")}
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                name = node.args[1]
                if isinstance(name, ast.Constant):
                    named.add(str(name.value))
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    assert named == documented
