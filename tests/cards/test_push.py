"""Push: the right kind to the right place, and the token nowhere to be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusechat.cards.push import PushError, kind_of, push_folder
from fusechat.cli import main
from fusechat.errors import RecipeError

pytest.importorskip("huggingface_hub")
TOKEN = "hf_very_secret"


class StubApi:
    """Keeps the calls; fails where told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, repo: str, **options: Any) -> str:
        self.calls.append(("create_repo", {"repo": repo, **options}))
        return f"https://hub/{repo}"

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload_folder", options))
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)


def exported(folder: Path, front: str = "configs: []") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# x\n")
    return folder


def test_a_data_set_goes_to_a_private_repository_of_its_kind(tmp_path: Path) -> None:
    api = StubApi()
    folder = exported(tmp_path / "out")
    assert push_folder(folder, "me/data", api=api) == "https://hub/me/data"
    (_, made), (_, sent) = api.calls
    assert (made["repo_type"], made["private"], made["exist_ok"]) == ("dataset", True, True)
    assert (sent["repo_id"], sent["repo_type"]) == ("me/data", "dataset")
    assert sent["folder_path"] == folder


def test_a_model_is_told_by_its_card_and_is_public_only_when_asked(tmp_path: Path) -> None:
    api = StubApi()
    push_folder(exported(tmp_path / "m", "library_name: transformers"), "me/m", True, api)
    assert (api.calls[0][1]["repo_type"], api.calls[0][1]["private"]) == ("model", False)


def test_all_that_is_wrong_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    api = StubApi()
    (tmp_path / "bare").mkdir()
    for folder, repo, said in (
        (tmp_path / "bare", "no-owner", "has no card"),
        (tmp_path / "bare", "no-owner", "write owner/name"),
        (tmp_path / "none", "me/x", "there is no such folder"),
        (exported(tmp_path / "other", "title: mine"), "me/x", "neither a data set nor a model"),
    ):
        with pytest.raises(RecipeError, match=said):
            push_folder(folder, repo, api=api)
    assert api.calls == []


def test_without_a_token_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(RecipeError, match="hf auth login"):
        push_folder(exported(tmp_path / "out"), "me/x", api=StubApi())


def test_an_error_of_the_hub_is_told_without_the_token(tmp_path: Path) -> None:
    class Response:
        status_code = 403

    error = OSError(f"403 Forbidden: Bearer {TOKEN}")
    error.response = Response()  # type: ignore[attr-defined]
    with pytest.raises(PushError) as told:
        push_folder(exported(tmp_path / "out"), "me/x", api=StubApi(error))
    assert "403 Forbidden: Bearer ***" in str(told.value)
    assert "may write" in str(told.value)
    assert TOKEN not in str(told.value)
    assert told.value.__suppress_context__  # nor in a traceback


def test_the_hubs_own_errors_are_such_errors() -> None:
    from huggingface_hub.errors import HfHubHTTPError

    assert issubclass(HfHubHTTPError, OSError)


def test_the_command_prints_the_address_and_never_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = StubApi()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: api)
    assert main(["push", str(exported(tmp_path / "out")), "me/x"]) == 0
    said = capsys.readouterr()
    assert said.out == "https://hub/me/x\n"
    assert TOKEN not in said.out + said.err


def test_a_card_that_is_no_yaml_tells_nothing(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    for text in ("# no front matter\n", "---\n{a: \n---\n", "---\n- a\n---\n"):
        card.write_text(text)
        assert kind_of(card) is None
