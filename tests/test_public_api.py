"""The public surface: what is listed is there and works from a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fusechat

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PUBLIC = {
    "Annotator", "Demonstration", "Dropped", "FusechatError", "Loss", "Message", "Options", "Pair",
    "Part", "Prompt", "Recipe", "RecipeError", "Response", "Score", "Source", "Strategy", "Task",
    "compare", "load_cluster", "load_recipe", "plan", "read_table", "run",
}  # fmt: skip


def test_the_public_names_are_these_and_all_can_be_had() -> None:
    assert set(fusechat.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(fusechat, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = fusechat.no_such_thing


def test_the_readmes_python_works_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import fusechat\n"
        f"recipe = fusechat.load_recipe({str(RECIPES / 'tiny.yaml')!r}, set={{'seed': 7}})\n"
        "print(fusechat.plan(recipe, 'workspace'))\n"
        "result = fusechat.run(recipe, 'workspace')\n"
        "for pair in result['build'].rows('dpo'):\n"
        "    print(pair.source, pair.margin, pair.reason)\n"
        "print(result.report)\n"
    )
    source = str(Path(fusechat.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={"PYTHONPATH": source},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "5 to run." in done.stdout
    assert len([line for line in done.stdout.splitlines() if "source ranked" in line]) == 8
    assert (tmp_path / "workspace").is_dir()
