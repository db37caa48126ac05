"""How likely a transformers model in this process finds texts, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fusechat import chat
from fusechat.local_models import Dtype, context_length, load, model_name, using
from fusechat.parts import SPEED, ModelName, RowPart, Where, Work
from fusechat.records import LogpRequest, SourceLogp

if TYPE_CHECKING:
    from fusechat.training.examples import Example

BYTES_A_TOKEN = 4
FORWARDS_A_BATCH = 4
"""A batch is what is journaled as a whole: about so many forward passes."""


class HfLogps(RowPart):
    """The log-probability of a response under a model, its tokenizer and its chat template.

    Teacher-forced: one forward pass over the ids of `chat.encode_chat`, the logits' softmax in
    float32, summed in float64 over the response's tokens and its end-of-turn token. It is of the
    model itself: no temperature, top-k, top-p or penalty.
    """

    on_device: ClassVar[bool] = True

    model: ModelName
    dtype: Dtype = "auto"
    batch_tokens: Annotated[int, SPEED] = Field(default=8192, ge=1)
    """Tokens of one forward pass, padding included, unless a single text is longer."""

    def sees(self, request: LogpRequest) -> Any:
        """The JSON value of all that decides an answer."""
        return [request.prompt.chat(), request.text]

    def cut(self, rows: Sequence[LogpRequest]) -> list[list[LogpRequest]]:
        """Batches of texts of like length, guessed from their bytes."""
        out: list[list[LogpRequest]] = []
        weight = 0
        for row in sorted(rows, key=lambda row: (_size(row), row.made_from)):
            if not out or weight + _size(row) > FORWARDS_A_BATCH * self.batch_tokens:
                out.append([])
                weight = 0
            out[-1].append(row)
            weight += _size(row)
        return out

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Load the model; the work answers the rows that it is given, batch by batch."""
        with using(where, "log-probabilities of a source") as device:
            from transformers import AutoModelForCausalLM

            tokenizer = chat.load_tokenizer(self.model)
            network = load(AutoModelForCausalLM.from_pretrained, self.model, self.dtype, device)
            reader = _Reader(self, network, tokenizer)

            def work(rows: Iterator[Any]) -> Iterator[Any]:
                for batch in self.cut(list(rows)):
                    yield from reader.answer(batch)

            yield work


def _size(row: LogpRequest) -> int:
    """Tokens of a row, roughly."""
    texts = [*(message.content for message in row.prompt.messages), row.text]
    return sum(len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN + 4 for text in texts)


@dataclass(frozen=True)
class _Reader:
    """A loaded model with its tokenizer."""

    part: HfLogps
    network: Any
    tokenizer: Any

    def answer(self, rows: Sequence[LogpRequest]) -> Iterator[SourceLogp]:
        """An answer to each row, those that cannot be read first."""
        able: list[tuple[LogpRequest, Example]] = []
        for row in rows:
            found = self._encode(row)
            if isinstance(found, str):
                yield row.unscorable(found)
            else:
                able.append((row, found))
        able.sort(key=lambda pair: (pair[1].longest, pair[1].texts[0].ids.tobytes()))
        for batch in self._batches(able):
            values = self._logps([example for _, example in batch])
            for (row, example), value in zip(batch, values, strict=True):
                yield row.logp(value, example.response_tokens)

    def _encode(self, row: LogpRequest) -> Example | str:
        """The row's ids, or why this model cannot read it."""
        import numpy as np

        from fusechat.training.examples import Example, Text

        name = model_name(self.part.model)
        try:
            found = chat.encode_chat(self.tokenizer, row.prompt.chat(), row.text)
        except chat.ChatTemplateError:
            return f"the chat template of {name} refuses the conversation"
        context = context_length(self.network.config)
        if context is not None and len(found.ids) > context:
            return f"longer than the context of {name} ({context} tokens)"
        text = Text(np.asarray(found.ids, dtype=np.int32), found.response_start)
        return Example(row.prompt.id, (text,), 1.0)

    def _batches(
        self, rows: Sequence[tuple[LogpRequest, Example]]
    ) -> Iterator[Sequence[tuple[LogpRequest, Example]]]:
        """Rows side by side, `rows x longest` at most `batch_tokens`; `rows` are by length."""
        start = 0
        for end in range(1, len(rows) + 1):
            room = end < len(rows) and (end + 1 - start) * rows[end][1].longest
            if not room or room > self.part.batch_tokens:
                yield rows[start:end]
                start = end

    def _logps(self, examples: Sequence[Example]) -> list[float]:
        import torch

        from fusechat.training.batches import pad
        from fusechat.training.logps import response_logps

        with torch.inference_mode():
            batch = pad(examples, self.network.device)
            values: list[float] = response_logps(self.network, batch).tolist()
        return values
