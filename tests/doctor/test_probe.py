"""Servers that do what they should, and servers that do not: each finding on a real socket."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.doctor.doctor_tokenizers import checks

from fusechat.doctor.probe import Server, look_at

KEY = "sk-very-secret"


class Behaviour:
    """How the test's server answers; the defaults are vLLM's contract."""

    def __init__(self, **changes: Any) -> None:
        self.model = "m"
        self.max_model_len: int | None = 4096
        self.lists = True
        self.key = ""
        self.ignores_n = False
        self.greedy = False
        self.same_choices = False
        self.forgets_seed = False
        self.empty = False
        self.status = 200
        self.garbage = False
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self._free = random.Random(0)

    def choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """One choice a sample: a text that the seed and the choice's number decide."""
        texts = []
        for index in range(1 if self.ignores_n else body["n"]):
            seed = body["seed"] + (0 if self.same_choices else index)
            drawn = self._free.random() if self.forgets_seed else random.Random(seed).random()
            texts.append("" if self.empty else "the sea" if self.greedy else f"sea {drawn}")
        return [{"message": {"role": "assistant", "content": text}} for text in texts]


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """A server on a free port of this machine; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _send(self, value: Any, status: int = 200) -> None:
            data = b"<html>" if behaviour.garbage else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refused(self) -> bool:
            if behaviour.key and self.headers.get("Authorization") != f"Bearer {behaviour.key}":
                self._send({"error": "bad key"}, 401)
                return True
            return False

        def do_GET(self) -> None:
            if self._refused():
                return
            if not behaviour.lists:
                self._send({"error": "no such page"}, 404)
                return
            own = {"id": behaviour.model, "max_model_len": behaviour.max_model_len}
            self._send({"object": "list", "data": [own]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._refused():
                return
            if behaviour.status != 200:
                said = f"broken; your key was {self.headers.get('Authorization')}"
                self._send({"error": said}, behaviour.status)
                return
            self._send({"choices": behaviour.choices(body)})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"model": "other"}, {"fault:server-other-model"}),
        ({"lists": False}, {"note:server-lists-nothing"}),
        ({"max_model_len": 512}, {"fault:context-no-room"}),
        ({"max_model_len": None}, set()),
        ({"ignores_n": True}, {"warning:server-ignores-n"}),
        ({"greedy": True}, {"warning:server-greedy"}),
        ({"same_choices": True}, {"warning:server-same-choices"}),
        ({"forgets_seed": True}, {"note:server-seed-not-kept"}),
        ({"empty": True}, {"warning:server-empty-answer"}),
        ({"key": KEY}, {"fault:server-key"}),
        ({"status": 500}, {"fault:server-refuses"}),
        ({"garbage": True}, {"fault:server-unreachable"}),
    ],
)
def test_what_a_server_does_wrong_is_found_and_nothing_else(
    changes: dict[str, Any], expected: set[str]
) -> None:
    with serving(Behaviour(**changes)) as url:
        found = checks(look_at(Server(url=url, model="m", needs=512)))
    assert found == expected


def test_a_server_is_asked_with_the_key_and_no_finding_shows_it() -> None:
    with serving(Behaviour(key=KEY)) as url:
        assert checks(look_at(Server(url=url, model="m", key=KEY))) == set()
    with serving(Behaviour(key=KEY, status=500)) as url:
        (found,) = look_at(Server(url=url, model="m", key=KEY))
    assert "your key was Bearer ***" in found.what
    assert KEY not in str(found)


def test_a_server_at_temperature_0_may_give_one_text() -> None:
    with serving(Behaviour(greedy=True)) as url:
        assert checks(look_at(Server(url=url, model="m", temperature=0.0))) == set()


def test_a_port_where_nobody_listens_is_a_fault_at_once() -> None:
    with serving(Behaviour()) as url:
        pass
    assert checks(look_at(Server(url=url, model="m"))) == {"fault:server-unreachable"}


def test_a_base_url_that_is_none_is_a_fault_too() -> None:
    assert checks(look_at(Server(url="localhost:8000", model="m"))) == {"fault:server-unreachable"}
