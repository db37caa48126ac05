"""What enters a key, and what a model's name stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel

from fusechat.local_models import model_name
from fusechat.parts import load_part
from fusechat.settings import SPEED, ContentPath, settings_key


class Inner(BaseModel):
    depth: int = 1


class Settings(BaseModel):
    path: ContentPath = ""
    size: int = 3
    fast: Annotated[int, SPEED] = 1
    inner: Inner = Inner()
    table: dict[str, Inner] = {}


def test_only_settings_that_differ_from_their_defaults_enter_a_key() -> None:
    assert settings_key(Settings(size=3)) == {}
    assert settings_key(Settings(size=4, fast=9)) == {"size": 4}
    assert settings_key(Settings(inner=Inner(depth=2))) == {"inner": {"depth": 2}}
    assert settings_key(Settings(table={"a": Inner()})) == {"table": {"a": {}}}


def test_without_a_recipe_a_relative_path_is_of_the_current_folder_and_stands_for_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("same")
    first = Settings(path="a")
    assert first.path == str(tmp_path / "a")
    assert settings_key(first) == settings_key(Settings(path=str(tmp_path / "a")))
    Path("a").write_text("other")
    assert settings_key(Settings(path="a")) != {"path": "a"}


def test_a_path_inside_another_type_stands_for_its_content_too(tmp_path: Path) -> None:
    class Some(BaseModel):
        maybe: ContentPath | None = None
        several: tuple[ContentPath, ...] = ()
        named: dict[str, ContentPath] = {}

    path = str(tmp_path / "a")
    Path(path).write_text("same")
    content = settings_key(Settings(path=path))["path"]
    assert settings_key(Some(maybe=path, several=(path,), named={"x": path})) == {
        "maybe": content,
        "several": [content],
        "named": {"x": content},
    }
    assert settings_key(Some(maybe=None)) == {}


def test_a_file_stands_for_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")
    first, second = (settings_key(Settings(path=str(tmp_path / name))) for name in "ab")
    assert first == second
    (tmp_path / "b").write_text("other")
    assert settings_key(Settings(path=str(tmp_path / "b"))) != first


def test_a_hub_model_is_its_commit_in_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    part = load_part("sources", {"use": "hf", "model": "org/name"}, tmp_path / "recipes")
    assert part.key()["settings"]["model"] == {"commit": commit}
    assert model_name(part.model) == "org/name"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/absent", "Fetch it first: hf download org/absent"),
        ("zoo", "there is no folder 'zoo' beside the recipe"),
        ("./zoo", "there is nothing at"),
    ],
)
def test_a_model_that_is_not_here_is_a_fault_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    part = load_part("sources", {"use": "hf", "model": model}, tmp_path)
    assert any(message in text for _, text in part.faults()), list(part.faults())


def test_a_package_that_is_not_installed_is_a_fault_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = load_part("annotators", {"use": "math_answer"}, tmp_path)
    assert not [text for key, text in part.faults() if key == "use"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(part.faults()) == [
        ("use", "the package 'math_verify' is needed and not installed. "
         "Install it with: pip install 'fusechat[math]'")
    ]  # fmt: skip
