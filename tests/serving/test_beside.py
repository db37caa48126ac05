"""`python -m fusechat.serving`: servers beside a command, started before it and stopped after."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusechat.errors import FusechatError
from fusechat.serving import __main__ as beside
from fusechat.serving.__main__ import Server, main, parse
from fusechat.serving.child import ServingChild


def test_the_command_runs_while_its_servers_do_and_its_exit_code_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log: list[str] = []

    @contextmanager
    def pretending(model: str, name: str, port: int, options: list[str]) -> Iterator[ServingChild]:
        log.append(f"{name} {model} {port} {options}")
        yield ServingChild(f"http://127.0.0.1:{port}/v1", None)  # type: ignore[arg-type]
        log.append(f"{name} ends, {(tmp_path / 'ran').exists()}")

    monkeypatch.setattr(beside, "serving", pretending)
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close(); raise SystemExit(7)"
    words = ["a=A@1", "b=B@2", "--dtype", "float32", "--", sys.executable, "-c", code]
    assert main(words) == 7
    options = ["--dtype", "float32"]
    assert log == [f"a A 1 {options}", f"b B 2 {options}", "b ends, True", "a ends, True"]


def test_servers_options_and_command_are_told_apart() -> None:
    words = ["a=zoo/a@8101", "b=/x@y/b@8102", "--dtype", "float32", "--", "run", "--", "it"]
    assert parse(words) == (
        [Server("a", "zoo/a", 8101), Server("b", "/x@y/b", 8102)],
        ["--dtype", "float32"],
        ["run", "--", "it"],
    )


@pytest.mark.parametrize(
    "words",
    [["a=b@1"], ["a=b@1", "--"], ["--", "run"], ["a=b", "--", "x"], ["b@1", "--", "x"]],
)
def test_a_call_of_another_form_is_refused_with_the_form(words: list[str]) -> None:
    with pytest.raises(FusechatError, match="NAME=MODEL@PORT"):
        parse(words)


def test_a_server_that_cannot_start_is_said_with_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"m={tmp_path / 'none'}@0", "--", "never run"]) == 1
    assert "there is nothing at" in capsys.readouterr().err
