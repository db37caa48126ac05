"""`fusechat serve` as a process: one line when ready, answers, a clean end; and wrong calls."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.serving.served import Client
from tests.tiny_models import strip_template, tiny_model

from fusechat.cli import main
from fusechat.serving.child import serving
from fusechat.serving.faults import written
from fusechat.serving.server import listen


def test_a_child_answers_at_the_url_that_it_says_and_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tmp_path / "llama", "llama")
    monkeypatch.setenv("SERVE_TEST_KEY", "secret")
    faults = written(tmp_path / "faults.json", {"kind": "error", "requests": "1"})
    options = ["--api-key-env", "SERVE_TEST_KEY", "--dtype", "float32", "--device", "cpu"]
    with serving(model, name="tiny", faults=faults, options=options) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url.endswith("/v1")
        client = Client(int(server.root.rpartition(":")[2]), "tiny")
        key = {"Authorization": "Bearer secret"}
        answers = [client.ask(n=2, max_tokens=4, headers=key) for _ in range(2)]
        assert [answer.status for answer in answers] == [500, 200]
        assert client.ask().status == 401
        assert client.counts()["answers"] == {"500": 1, "200": 1, "401": 1}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_all_faults_of_a_call_are_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVE_TEST_KEY", raising=False)
    call = ["serve", str(tmp_path / "none"), "--dtype", "int3", "--max-batch", "0"]
    assert main([*call, "--api-key-env", "SERVE_TEST_KEY"]) == 2
    said = capsys.readouterr().err
    for word in ("MODEL: there is nothing at", "--dtype", "--max-batch", "SERVE_TEST_KEY"):
        assert word in said


def test_a_base_model_without_a_chat_template_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = strip_template(tiny_model(tmp_path / "llama", "llama"))
    assert main(["serve", str(model)]) == 2
    assert "no chat template" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_with_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(tmp_path / "llama", "llama")
    with listen("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert main(["serve", str(model), "--port", str(port)]) == 1
    assert f"cannot listen at 127.0.0.1, port {port}" in capsys.readouterr().err
