"""Methods of a recipe: changes of one recipe by name, with its lines, keys and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.cli import main
from fusechat.errors import RecipeError
from fusechat.planner import plan
from fusechat.recipe import load_recipe, read_recipe

RECIPE = """\
name: small
prompts:
  hello: {use: files, path: prompts.jsonl, domain: chat}
sources:
  one: {use: echo, samples: 2}
annotators:
  length: {scale: 100.0}
build:
  chat:
    split: {rule: filter_then_share}
    sft: {use: best_of, by: length}
    dpo: {use: same_source_margin, by: length, min_margin: 0.0, max_margin: 1.0}
"""
METHODS = """\
methods:
  as_it_is: {about: nothing changes}
  open:
    about: every gap
    set:
      build.chat.dpo.max_margin: null
      build.chat.sft:
        use: best_of
        by: length
        ties: source_order
  elsewhere: {set: {prompts.hello.path: more/prompts.jsonl, seed: 7}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hello"}\n')
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "prompts.jsonl").write_text('{"prompt": "good day"}\n')
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE + METHODS)
    return path


def faults_of(path: Path, method: str | None = None, **settings: Any) -> list[str]:
    return [str(fault) for fault in read_recipe(path, settings, method)[1]]


def keys_of(path: Path, workspace: Path, method: str | None = None) -> dict[str, str]:
    return {u.name: u.key for u in plan(load_recipe(path, method=method), workspace).units}


def test_a_method_changes_what_it_says_and_nothing_else(recipe: Path, tmp_path: Path) -> None:
    base, changed = load_recipe(recipe), load_recipe(recipe, method="open")
    assert base.build is not None
    assert changed.build is not None
    rules = base.build.domains["chat"], changed.build.domains["chat"]
    assert [getattr(rule.dpo, "max_margin", "") for rule in rules] == [1.0, None]
    assert rules[0].sft == rules[1].sft
    own = keys_of(recipe, tmp_path), keys_of(recipe, tmp_path, "open")
    assert {name for name in own[0] if own[0][name] != own[1][name]} == {"build"}


def test_the_section_enters_no_key_and_a_method_without_changes_is_the_recipe(
    recipe: Path, tmp_path: Path
) -> None:
    own = keys_of(recipe, tmp_path)
    assert keys_of(recipe, tmp_path, "as_it_is") == own
    recipe.write_text(RECIPE)
    assert keys_of(recipe, tmp_path) == own


def test_a_method_has_its_name_in_the_runs_name_and_no_methods_of_its_own(recipe: Path) -> None:
    found = load_recipe(recipe, method="open")
    assert (found.name, dict(found.methods)) == ("small-open", {})
    assert list(load_recipe(recipe).methods) == ["as_it_is", "open", "elsewhere"]


def test_the_text_of_a_method_is_the_recipe_that_ran(recipe: Path, tmp_path: Path) -> None:
    found = load_recipe(recipe, method="open")
    copy = recipe.with_name("copy.yaml")
    copy.write_text(found.text)
    assert keys_of(copy, tmp_path) == keys_of(recipe, tmp_path, "open")
    assert "methods" not in yaml.safe_load(found.text)


def test_paths_of_a_method_are_relative_to_the_recipe_wherever_one_stands(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "more").mkdir(parents=True)
    (other / "more" / "prompts.jsonl").write_text('{"prompt": "wrong"}\n')
    monkeypatch.chdir(other)
    found = load_recipe(recipe, method="elsewhere")
    assert getattr(found.prompts["hello"].part, "path", "") == str(tmp_path / "more/prompts.jsonl")
    assert found.seed == 7


def test_what_is_set_on_the_command_line_is_set_last(recipe: Path) -> None:
    assert load_recipe(recipe, {"seed": 9}, "elsewhere").seed == 9


def test_faults_inside_a_method_have_the_methods_line(recipe: Path) -> None:
    text = recipe.read_text()
    recipe.write_text(text.replace("ties: source_order", "ties: wrong"))
    line = text.splitlines().index("        ties: source_order") + 1
    assert faults_of(recipe) == []
    (fault,) = faults_of(recipe, "open")
    assert fault.startswith(f"{recipe}:{line}  build.chat.sft.ties  ")
    recipe.write_text(text.replace("build.chat.dpo.max_margin", "build.chat.dpo.max_margn"))
    (fault,) = faults_of(recipe, "open")
    line = text.splitlines().index("      build.chat.dpo.max_margin: null") + 1
    assert fault.startswith(f"{recipe}:{line}  ")
    assert "Did you mean 'max_margin'?" in fault


def test_a_wrong_place_in_a_list_is_told_at_the_methods_line(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text()
        + "  deep: {set: {build.chat.sources: [one], build.chat.sources.3: two}}\n"
    )
    (fault,) = faults_of(recipe, "deep")
    assert fault.startswith(
        f"{recipe}:{len(recipe.read_text().splitlines())}  build.chat.sources.3  "
    )
    assert "is no place in this list" in fault


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("methods: {one: {abuot: x}}", "there is no key 'abuot' here. Did you mean 'about'?"),
        ("methods: {one: {set: [a]}}", "a mapping of names"),
        ("methods: [one]", "a mapping of names"),
        ('methods: {one: {about: "a\\nb"}}', "cannot be a name"),
        ("methods: {'../one': {}}", "cannot be a name"),
    ],
)
def test_faults_of_the_section_itself_are_told_with_and_without_a_method(
    recipe: Path, section: str, message: str
) -> None:
    recipe.write_text(RECIPE + section + "\n")
    for method in (None, "one"):
        assert any(message in fault for fault in faults_of(recipe, method)), method


def test_an_unknown_method_names_those_that_there_are(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="there is no method 'opne'"):
        load_recipe(recipe, method="opne")
    recipe.write_text(RECIPE)
    with pytest.raises(RecipeError, match="The recipe has no section 'methods'"):
        load_recipe(recipe, method="open")


def test_variables_that_only_methods_use_are_used(recipe: Path) -> None:
    text = METHODS.replace("more/prompts.jsonl", '"${place}/prompts.jsonl"')
    recipe.write_text(RECIPE + text + "variables: {place: more}\n")
    assert faults_of(recipe) == []
    assert faults_of(recipe, "open") == []
    found = load_recipe(recipe, method="elsewhere")
    assert getattr(found.prompts["hello"].part, "path", "").endswith("more/prompts.jsonl")


def test_check_looks_at_every_method(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--workspace", str(recipe.parent / "ws")]
    assert main(["check", str(recipe), *where]) == 0
    assert "methods: as_it_is, open, elsewhere. All: fusechat compare" in capsys.readouterr().out
    recipe.write_text(recipe.read_text().replace("ties: source_order", "ties: wrong"))
    assert main(["check", str(recipe), *where]) == 2
    assert "build.chat.sft.ties" in capsys.readouterr().err
    assert main(["check", str(recipe), "--method", "elsewhere", *where]) == 0


def test_check_and_run_take_a_method(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--workspace", str(tmp_path / "ws")]
    assert (
        main(["run", str(recipe), "--method", "elsewhere", "--only", "prompts", "--quiet", *where])
        == 0
    )
    assert main(["check", str(recipe), "--method", "elsewhere", *where]) == 0
    assert "1 done, 3 to run." in capsys.readouterr().out
    assert main(["check", str(recipe), "--method", "nothing", *where]) == 2
    runs = [path.name for path in (tmp_path / "ws" / "runs").iterdir()]
    assert [name.rsplit("-", 1)[0] for name in runs] == ["small-elsewhere"]
