"""The engine of `fusechat serve`: one thread that draws the answers of a model in batches.

Waiting rows of the same sampling settings are computed side by side, oldest first; a batch that
has begun takes no more rows in. Each row draws from the stream of its own seed, so that what is
computed beside it changes nothing but, through rounding, its last bits.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from fusechat import chat
from fusechat.errors import PartError
from fusechat.local_models import context_length, load, using
from fusechat.parts import Where
from fusechat.serving.contract import Ask, Job, Refused
from fusechat.serving.rows import Row

_GATHER = 0.003
"""Seconds that the first row waits for company."""
_ROOM = 2048
"""Most tokens of an answer where neither the request nor the model has a limit."""
_DEFAULTS = ("temperature", "top_p", "top_k", "repetition_penalty")


def seeds_of(ask: Ask) -> list[int]:
    """The seed of each choice: counted up from the request's, as vLLM does, else drawn anew."""
    if ask.seed is None:
        return [secrets.randbits(63) for _ in range(ask.n)]
    return [(ask.seed + index) % 2**64 for index in range(ask.n)]


class LocalEngine:
    """A transformers model in this process; see `contract.Engine`."""

    def __init__(self, model: str, name: str, dtype: str, where: Where, max_batch: int) -> None:
        """Load the model and begin; raises `PartError` where it cannot be loaded."""
        self.name = name
        self.defaults: Mapping[str, Any] = {}
        self.context: int | None = None
        self._model_path, self._dtype, self._where = model, dtype, where
        self._max_batch = max_batch
        self._waiting: deque[Row] = deque()
        self._wake = threading.Condition()
        self._tokenizing = threading.Lock()
        self._closed = False
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def encode(self, messages: Sequence[Mapping[str, str]], goes_on: bool = False) -> list[int]:
        """The ids of a conversation, by the model's own chat template."""
        with self._tokenizing:
            try:
                return chat.render_prompt(self._tokenizer, messages, new_answer=not goes_on)
            except chat.ChatTemplateError as error:
                raise Refused(400, str(error), "messages") from error

    def submit(self, job: Job) -> None:
        """Put the rows of a job behind those that wait."""
        room = _ROOM if self.context is None else self.context - len(job.ids)
        room = room if job.ask.max_tokens is None else min(room, job.ask.max_tokens)
        rows = [Row(job, index, seed, room) for index, seed in enumerate(job.seeds)]
        with self._wake:
            if self._closed:
                job.say(Refused(503, "the server is stopping"))
                return
            self._waiting.extend(rows)
            self._wake.notify()

    def close(self) -> None:
        """End the thread; rows that wait are answered with an error."""
        with self._wake:
            self._closed = True
            left = {id(row.job): row.job for row in self._waiting}.values()
            self._waiting.clear()
            self._wake.notify()
        for job in left:
            job.say(Refused(503, "the server is stopping"))
        self._thread.join()

    def _main(self) -> None:
        try:
            with using(self._where, "fusechat serve") as device:
                self._load(device)
                self._ready.set()
                while rows := self._next():
                    self._answer(rows)
        except BaseException as error:  # noqa: BLE001 - raised by whoever made this engine
            self._failure = error
        finally:
            self._ready.set()

    def _load(self, device: Any) -> None:
        from transformers import AutoModelForCausalLM

        self._tokenizer = chat.load_tokenizer(self._model_path)
        self._model = load(
            AutoModelForCausalLM.from_pretrained, self._model_path, self._dtype, device
        )
        self.context = context_length(self._model.config)
        config = self._model.generation_config
        written = getattr(config, "eos_token_id", None)
        listed = written if isinstance(written, list) else [written]
        ends = (*listed, self._tokenizer.eos_token_id, chat.turn_end_id(self._tokenizer))
        self._ends = frozenset(end for end in ends if end is not None)
        found = {name: getattr(config, name, None) for name in _DEFAULTS}
        self.defaults = {name: value for name, value in found.items() if value is not None}

    def _next(self) -> list[Row]:
        """Rows of like settings for one batch, the longest waiting first; none: the end."""
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return []
            time.sleep(_GATHER)
            if taken := self._take():
                return taken

    def _take(self) -> list[Row]:
        taken: list[Row] = []
        left: deque[Row] = deque()
        with self._wake:
            for row in self._waiting:
                if row.job.cancelled:
                    continue
                like = not taken or row.settings == taken[0].settings
                (taken if like and len(taken) < self._max_batch else left).append(row)
            self._waiting = left
        return taken

    def _answer(self, rows: Sequence[Row]) -> None:
        try:
            self._draw(rows)
        except Exception as error:  # noqa: BLE001 - said to the clients of this batch
            fault = PartError(f"the model failed: {type(error).__name__}: {error}")
            for job in {id(row.job): row.job for row in rows}.values():
                job.cancelled = True
                job.say(fault)

    def _draw(self, rows: Sequence[Row]) -> None:
        import torch

        from fusechat.sources._drawing import Batch, Warp, streams

        def watch(
            live: list[int], tokens: list[int], chances: list[float], logits: torch.Tensor
        ) -> list[bool]:
            tops = _likeliest([rows[at].job.ask.top_logprobs for at in live], logits)
            with self._tokenizing:
                drawn = zip(live, tokens, chances, tops, strict=True)
                return [
                    rows[at].take(token, chance, top, self._ends, self._tokenizer)
                    for at, token, chance, top in drawn
                ]

        with torch.inference_mode():
            batch = Batch(self._model, [row.job.ids for row in rows], Warp(*rows[0].settings))
            rooms = [row.room for row in rows]
            batch.run(streams([row.seed for row in rows], max(rooms)), rooms, [], watch)


def _likeliest(wanted: Sequence[int], logits: Any) -> list[list[tuple[int, float]]]:
    """The likeliest tokens with their log-probabilities, as many as each row wants."""
    most = max(wanted)
    if most == 0:
        return [[] for _ in wanted]
    values, ids = logits.log_softmax(-1).topk(min(most, logits.shape[-1]))
    pairs = zip(wanted, ids.tolist(), values.tolist(), strict=True)
    return [list(zip(ids_, values_, strict=True))[:count] for count, ids_, values_ in pairs]
