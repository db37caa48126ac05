"""An engine for chats that answers from a list, word by word, without a model; and its page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fusechat.serving.chat_page import create_page
from fusechat.serving.contract import Engine, Job, Piece, Refused
from fusechat.serving.conversation import Sampling
from fusechat.serving.server import listen


class TalkingEngine:
    """A token is a word. Answers come in turn from `answers`, the last one again and again; one
    that ends with `...` goes on for ever."""

    defaults: Mapping[str, Any] = {}

    def __init__(self, name: str, *answers: str, context: int | None = 1000) -> None:
        self.name, self.context = name, context
        self._answers = list(answers)
        self.seen: list[list[dict[str, str]]] = []
        """The messages of every conversation that was encoded."""
        self.jobs: list[Job] = []

    def encode(self, messages: Sequence[Mapping[str, str]], goes_on: bool = False) -> list[int]:
        """One id for each word."""
        if any("refuse" in one["content"] for one in messages):
            raise Refused(400, "the template refuses it", "messages")
        self.seen.append([dict(one) for one in messages])
        return list(range(sum(len(one["content"].split()) for one in messages)))

    def submit(self, job: Job) -> None:
        """Say the next answer from a thread, until it ends or is not wanted any more."""
        text = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        self.jobs.append(job)
        threading.Thread(target=self._say, args=(job, text), daemon=True).start()

    def _say(self, job: Job, text: str) -> None:
        endless = text.endswith("...")
        words = text.removesuffix("...").split(" ")
        most = job.ask.max_tokens or len(words)
        for word in words[:most][:-1]:
            job.say(Piece(0, f"{word} ", tokens=1))
        while endless and not job.cancelled:
            job.say(Piece(0, "more ", tokens=1))
            time.sleep(0.01)
        if not job.cancelled:
            finish = "length" if most < len(words) else "stop"
            job.say(Piece(0, words[:most][-1], tokens=1, finish=finish))


@contextmanager
def page_of(*engines: Engine, sampling: Sampling | None = None) -> Iterator[int]:
    """The port of the page of these engines, served in a thread while open."""
    import uvicorn

    with listen("127.0.0.1", 0) as place:
        port: int = place.getsockname()[1]
        app = create_page(engines, port, sampling or Sampling())
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()
