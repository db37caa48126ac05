"""A server in this process for tests: the real app and uvicorn, over any engine."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusechat.serving.app import create_app
from fusechat.serving.contract import Engine, Job, Piece
from fusechat.serving.faults import Faults
from fusechat.serving.server import listen


class SayingEngine:
    """Answers at once, without a model: choice i says its seed, a word at a time."""

    name = "saying"
    context: int | None = 100
    defaults: Mapping[str, Any] = {}

    def encode(self, messages: Sequence[Mapping[str, str]], goes_on: bool = False) -> list[int]:
        """One id for each word."""
        return list(range(sum(len(message["content"].split()) for message in messages)))

    def submit(self, job: Job) -> None:
        """Say all pieces."""
        for index, seed in enumerate(job.seeds):
            words = ["seed ", f"{seed} ", "at ", f"{job.ask.temperature:g}"]
            if not job.ask.stream:
                words = ["".join(words)]
            for word in words[:-1]:
                job.say(Piece(index, word, tokens=1))
            job.say(Piece(index, words[-1], tokens=1, finish="stop"))


@dataclass
class Answer:
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def texts(self) -> list[str]:
        """The text of each choice, in order."""
        choices = sorted(self.json()["choices"], key=lambda choice: choice["index"])
        return [choice["message"]["content"] for choice in choices]

    def events(self) -> list[Any]:
        """The objects of a stream; its last line must be [DONE]."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


class Client:
    """Asks one server; every request has its own connection."""

    def __init__(self, port: int, model: str) -> None:
        self.port, self.model = port, model

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path."""
        return self._ask("GET", path, None, headers)

    def ask(self, text: str = "What is 2 + 3?", **fields: Any) -> Answer:
        """POST a chat completion of one user turn."""
        headers = fields.pop("headers", {})
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], **fields}
        return self.post(json.dumps(body).encode(), **headers)

    def post(self, body: bytes, **headers: str) -> Answer:
        """POST any bytes as a chat completion."""
        return self._ask("POST", "/v1/chat/completions", body, headers)

    def counts(self) -> dict[str, Any]:
        """What the faults saw."""
        counts: dict[str, Any] = self.get("/faults/counts").json()
        return counts

    def _ask(self, method: str, path: str, body: bytes | None, headers: Any) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


@contextmanager
def running(
    engine: Engine, faults: Faults | None = None, api_key: str | None = None
) -> Iterator[Client]:
    """A client of a server that runs in a thread while open."""
    import uvicorn

    app = create_app(engine, faults=faults, api_key=api_key)
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as place:
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Client(place.getsockname()[1], engine.name)
        finally:
            server.should_exit = True
            thread.join()
