"""The source `hf`: a transformers model in this process.

Made for models of up to some billion weights without a server: requests are sorted by length
and computed in batches; the samples of one prompt share its prefill; finished rows leave the
batch. Each row draws from a stream of its own (Philox, keyed by the request's seed), one number
per token, so that neither its neighbours nor a resume change its text. A batch is cut from the
rows alone and computed as a whole, so that a resumed run repeats it to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fusechat import chat
from fusechat.local_models import Dtype, context_length, load, model_faults, model_name, using
from fusechat.parts import SPEED, ModelName, RowPart, Source, Where, Work
from fusechat.records import Finish, Request, Response
from fusechat.sources._hf_logps import HfLogps

if TYPE_CHECKING:
    import torch


class Hf(Source):
    """A transformers model in this process, on CPU or GPU, one worker per core.

    Defaults are the sampling settings of FuseChat-3.0 (temperature 0.8, top-p 0.95). An answer
    that reaches `max_new_tokens`, or the end of the model's context, has finish `length` and is
    never chosen. White space around an answer is left out. `logprob` is the sum over the
    answer's tokens, its end-of-turn token included, in nats, under the model itself: before
    temperature, top-k, top-p and penalty.
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
    max_new_tokens: int = Field(default=2048, ge=1)
    dtype: Dtype = "auto"
    context: int | None = Field(default=None, ge=1)
    """Most tokens of prompt and answer together, in the place of what the model's config says; past
    what it was trained for, a model's answers are worth little."""
    batch_rows: Annotated[int, SPEED] = Field(default=320, ge=1)
    """Responses that are computed side by side."""

    def served_model(self) -> str:
        """The hub name, or the folder's name."""
        return model_name(self.model)

    def logps(self) -> RowPart:
        """Its model reads any text. What was kept while sampling is not used: decoding and encoding
        again may give other tokens."""
        return HfLogps(model=self.model, dtype=self.dtype)

    def faults(self) -> Iterator[tuple[str, str]]:
        """A model folder without configuration, tokenizer or chat template."""
        yield from super().faults()
        for message in model_faults(self.model, "chat"):
            yield "model", message

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
        warp = Warp(part.temperature, part.top_p, part.top_k, part.repetition_penalty)
        most = part.max_new_tokens
        rooms = [most if context is None else min(most, context - len(ids)) for _, ids in rows]
        with torch.inference_mode():
            batch = Batch(self.model, [ids for _, ids in rows], warp)
            uniforms = streams([request.seed for request, _ in rows], max(rooms))
            drawn, logprobs = batch.run(uniforms, rooms, self.ends)
        for (request, _), ids, logprob in zip(rows, drawn.tolist(), logprobs.tolist(), strict=True):
            yield self._response(request, [token for token in ids if token >= 0], logprob)

    def _response(self, request: Request, ids: list[int], logprob: float) -> Response:
        ended = ids[-1] in self.ends
        text = self.tokenizer.decode(
            ids[:-1] if ended else ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finish: Finish = "stop" if ended else "length"
        return request.response(text.strip(), finish, tokens=len(ids), logprob=logprob)
