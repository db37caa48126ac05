"""The source `hf`: a transformers model in this process.

Made for models of up to some billion weights without a server: requests are sorted by length
and computed in batches; the samples of one prompt share its prefill; finished rows leave the
batch. Each row draws from a stream of its own (Philox, keyed by the request's seed), one number
per token, so that neither its neighbours nor a resume change its text. A batch is cut from the
rows alone and computed as a whole, so that a resumed run repeats it to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from fusechat import chat
from fusechat.local_models import Dtype, context_length, load, model_faults, model_name, using
from fusechat.parts import SPEED, ModelName, RowPart, Source, Where, Work
from fusechat.records import Finish, Request, Response
from fusechat.sources._hf_logps import HfLogps
from fusechat.sources._stops import StopWatch, cut_at
from fusechat.sources._top_logprobs import together

if TYPE_CHECKING:
    import torch

    from fusechat.sources._drawing import Batch


class Hf(Source):
    """A transformers model in this process, on CPU or GPU, one worker per core.

    Defaults are the sampling settings of FuseChat-3.0 (temperature 0.8, top-p 0.95). An answer
    that reaches `max_new_tokens`, or the end of the model's context, has finish `length` and is
    never chosen. White space around an answer is left out; of one that goes on from a given
    beginning (a prefill) the text is what comes after, white space at its head included. `logprob`
    is the sum over the answer's tokens, its end-of-turn token included, in nats, under the model
    itself: before temperature, top-k, top-p and penalty.
    """

    requires: ClassVar[Mapping[str, str]] = {"torch": "local", "transformers": "local"}

    on_device: ClassVar[bool] = True

    model: ModelName
    temperature: float = Field(default=0.8, ge=0)
    """0 takes the likeliest token each time."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Only the likeliest tokens that together have at least this probability are drawn from."""
    top_k: int | None = Field(default=None, ge=1)
    """Only this many likeliest tokens are drawn from; none means all."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Divides positive and multiplies negative logits of tokens seen before (CTRL, eq. 2)."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from the logits of tokens that the answer has, as OpenAI and vLLM do."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken from a token's logit as often as the answer has it, as OpenAI and vLLM do."""
    max_new_tokens: int = Field(default=2048, ge=1)
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends; they are not in it, though their tokens are counted."""
    top_logprobs: int = Field(default=0, ge=0, le=20)
    """So many of the likeliest first tokens are kept in the answer's details, as `top_logprobs`:
    token -> nats, under the model itself. For judges who answer with one word."""
    dtype: Dtype = "auto"
    context: int | None = Field(default=None, ge=1)
    """Most tokens of prompt and answer together, in the place of what the model's config says; past
    what it was trained for, a model's answers are worth little."""
    batch_rows: Annotated[int, SPEED] = Field(default=320, ge=1)
    """Responses that are computed side by side."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def faults(self) -> Iterator[tuple[str, str]]:
        """A model folder without configuration, tokenizer or chat template; an empty stop text."""
        yield from super().faults()
        if "" in self.stop:
            yield "stop", "an empty text would end every answer before it begins. Remove it."
        for message in model_faults(self.model, "chat"):
            yield "model", message

    def prefills(self) -> bool:
        """Yes: the beginning of an answer is text like any other."""
        return True

    def served_model(self) -> str:
        """The hub name, or the folder's name."""
        return model_name(self.model)

    def logps(self) -> RowPart:
        """Its model reads any text. What was kept while sampling is not used: decoding and encoding
        again may give other tokens."""
        return HfLogps(model=self.model, dtype=self.dtype)

    def cut(self, rows: Sequence[Request]) -> list[list[Request]]:
        """Batches of requests of like length; the samples of a prompt stand together."""
        ordered = sorted(rows, key=_order)
        size = self.batch_rows
        return [ordered[at : at + size] for at in range(0, len(ordered), size)]

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Load the model; the work answers the requests that it is given, batch by batch."""
        with using(where, "the source 'hf'") as device:
            sampler = _open_sampler(self, device)

            def work(rows: Iterator[Any]) -> Iterator[Any]:
                for batch in self.cut(list(rows)):
                    yield from sampler.answer(batch)

            yield work


def _order(request: Request) -> tuple[int, str, int]:
    characters = sum(len(message.content) for message in request.prompt.messages)
    return characters, request.prompt.id, request.index


def _open_sampler(part: Hf, device: torch.device) -> _Sampler:
    from transformers import AutoModelForCausalLM

    tokenizer = chat.load_tokenizer(part.model)
    model = load(AutoModelForCausalLM.from_pretrained, part.model, part.dtype, device)
    written = getattr(model.generation_config, "eos_token_id", None)
    listed = written if isinstance(written, list) else [written]
    ends = [*listed, tokenizer.eos_token_id, chat.turn_end_id(tokenizer)]
    return _Sampler(part, model, tokenizer, sorted({end for end in ends if end is not None}))


@dataclass(frozen=True)
class _Sampler:
    """A loaded model, and which tokens end its answers."""

    part: Hf
    model: Any
    tokenizer: Any
    ends: list[int]

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """A response to each request, those that cannot be asked first."""
        rendered: dict[str, list[int] | str] = {}
        able: list[tuple[Request, list[int]]] = []
        for request in requests:
            prompt = request.prompt
            if prompt.id not in rendered:
                rendered[prompt.id] = self._render(prompt.chat())
            ids = rendered[prompt.id]
            if isinstance(ids, str):
                yield request.failure(ids)
            else:
                able.append((request, ids))
        if able:
            yield from self._draw(able)

    def _render(self, messages: list[dict[str, str]]) -> list[int] | str:
        """The prompt's ids, or why there can be no answer to it."""
        try:
            ids = chat.render_prompt(self.tokenizer, messages)
        except chat.ChatTemplateError as error:
            return str(error)
        context = self._context()
        if context is not None and len(ids) >= context:
            name = self.part.served_model()
            return f"prompt has {len(ids)} tokens; the context of {name} is {context}"
        return ids

    def _context(self) -> int | None:
        return self.part.context or context_length(self.model.config)

    def _draw(self, rows: Sequence[tuple[Request, list[int]]]) -> Iterator[Response]:
        """Draw all rows side by side."""
        import torch

        from fusechat.sources._drawing import Batch, Warp, streams

        part, context = self.part, self._context()
        warp = Warp(
            part.temperature, part.top_p, part.top_k, part.repetition_penalty,
            part.presence_penalty, part.frequency_penalty,
        )  # fmt: skip
        most = part.max_new_tokens
        rooms = [most if context is None else min(most, context - len(ids)) for _, ids in rows]
        with torch.inference_mode():
            batch = Batch(self.model, [ids for _, ids in rows], warp)
            likely = self._likely(batch, len(rows))
            uniforms = streams([request.seed for request, _ in rows], max(rooms))
            watch = StopWatch(self.tokenizer, part.stop, len(rows)) if part.stop else None
            drawn, logprobs = batch.run(uniforms, rooms, self.ends, watch)
        for (request, _), ids, logprob, details in zip(
            rows, drawn.tolist(), logprobs.tolist(), likely, strict=True
        ):
            kept = [token for token in ids if token >= 0]
            yield self._response(request, kept, logprob, details)

    def _likely(self, batch: Batch, rows: int) -> list[str | None]:
        """Of each row the details with its likeliest first tokens, where they are asked for."""
        if not self.part.top_logprobs:
            return [None] * rows
        ids, values = (found.tolist() for found in batch.likeliest(self.part.top_logprobs))
        texts = [
            [self.tokenizer.decode([one], clean_up_tokenization_spaces=False) for one in row]
            for row in ids
        ]
        told = (together(zip(*row, strict=True)) for row in zip(texts, values, strict=True))
        return [json.dumps({"top_logprobs": one}, ensure_ascii=False) for one in told]

    def _response(
        self, request: Request, ids: list[int], logprob: float, details: str | None = None
    ) -> Response:
        ended = ids[-1] in self.ends
        text = self.tokenizer.decode(
            ids[:-1] if ended else ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        text, stopped = cut_at(text, self.part.stop)
        finish: Finish = "stop" if ended or stopped else "length"
        begun = chat.is_begun(request.prompt.chat())
        return request.response(
            text.rstrip() if begun else text.strip(),
            finish,
            tokens=len(ids),
            logprob=logprob,
            details=details,
        )
