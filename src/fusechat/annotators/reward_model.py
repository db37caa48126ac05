"""The annotator `reward_model`: any sequence classifier with one label, in this process.

Right padding and length-sorted batches make it fast; two checks at each start make sure that
they change nothing: what stands in the padding must not matter at all, and a conversation
scored alone must score the same as in a batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fusechat import chat
from fusechat.errors import PartError
from fusechat.local_models import Dtype, context_length, load, model_faults, model_name, using
from fusechat.parts import SPEED, Annotator, ModelName, Where, Work
from fusechat.records import Candidate, Score

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-5
"""Largest difference that batching may make in float32, for scores of up to 1 (else relative)."""
_PROBES = (
    ("Hi", "Hello."),
    ("What is 12 - 5?", "12 - 5 = 7, so the answer is 7."),
    ("Name three primes.", "Two, three and five are primes. " * 3),
    ("Tell me a story about a fox. " * 2, "Once upon a time there was a fox. " * 6),
)


class RewardModel(Annotator):
    """A reward model: any transformers sequence classifier with one label.

    The value is the classifier's logit, on the model's own scale, at the last token of the
    conversation as its own chat template writes it. The head is computed in float32 whatever
    the `dtype` of the body. Cut, failed and empty responses, and conversations longer than the
    model takes, are unscorable.
    """

    requires: ClassVar[Mapping[str, str]] = {"torch": "local", "transformers": "local"}

    on_device: ClassVar[bool] = True

    model: ModelName
    dtype: Dtype = "auto"
    max_length: int | None = Field(default=None, ge=1)
    """Longer conversations (in tokens) are unscorable; none means the model's context."""
    batch_rows: Annotated[int, SPEED] = Field(default=64, ge=1)
    """Conversations that are scored side by side."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """A model folder without configuration, tokenizer or chat template."""
        yield from super().faults()
        for message in model_faults(self.model, "reward"):
            yield "model", message

    def cut(self, rows: Sequence[Candidate]) -> list[list[Candidate]]:
        """Batches of conversations of like length."""
        ordered = sorted(rows, key=_order)
        size = self.batch_rows
        return [ordered[at : at + size] for at in range(0, len(ordered), size)]

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Load and check the model; the work scores what it is given, batch by batch."""
        with using(where, "the annotator 'reward_model'") as device:
            judge = _open_judge(self, device)
            judge.check_itself()

            def work(rows: Iterator[Any]) -> Iterator[Any]:
                for batch in self.cut(list(rows)):
                    yield from judge.score(batch)

            yield work


def _order(candidate: Candidate) -> tuple[int, str, str]:
    turns = sum(len(message.content) for message in candidate.prompt.messages)
    return turns + len(candidate.response.text), candidate.prompt.id, candidate.response.id


def _open_judge(part: RewardModel, device: torch.device) -> _Judge:
    from transformers import AutoModelForSequenceClassification

    tokenizer = chat.load_tokenizer(part.model)
    model, info = load(
        AutoModelForSequenceClassification.from_pretrained,
        part.model,
        part.dtype,
        device,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        raise PartError(
            f"{part.model} has no trained reward head (its weights lack {', '.join(missing[:3])}). "
            "Give a sequence-classification model, not a chat model."
        )
    if model.config.num_labels != 1:
        raise PartError(
            f"{part.model} has {model.config.num_labels} labels; a reward model has one. Give a "
            "model with num_labels 1 in its config.json."
        )
    return _Judge(part, model, tokenizer)


@dataclass(frozen=True)
class _Judge:
    """A loaded reward model."""

    part: RewardModel
    model: Any
    tokenizer: Any

    def score(self, candidates: Sequence[Candidate]) -> Iterator[Score]:
        """A score for each candidate, those that cannot be judged first."""
        able: list[tuple[Candidate, list[int]]] = []
        for candidate in candidates:
            found = self._render(candidate)
            if isinstance(found, Score):
                yield found
            else:
                able.append((candidate, found))
        values = self.logits([ids for _, ids in able]) if able else []
        for (candidate, _), value in zip(able, values, strict=True):
            if math.isfinite(value):
                yield candidate.score(value)
            else:
                yield candidate.error("the reward model's score is not a finite number")

    def _render(self, candidate: Candidate) -> list[int] | Score:
        """The conversation's ids, or the verdict that there is nothing to score."""
        response = candidate.response
        if response.finish == "error":
            return candidate.unscorable("failed response")
        if response.finish == "length":
            return candidate.unscorable("cut response")
        if not response.whole:
            return candidate.unscorable("empty response")
        answer = {"role": "assistant", "content": response.text}
        try:
            ids = chat.render_conversation(self.tokenizer, [*candidate.prompt.chat(), answer])
        except chat.ChatTemplateError as error:
            return candidate.error(str(error))
        most = self._longest()
        if most is not None and len(ids) > most:
            return candidate.unscorable("longer than the reward model's context")
        return ids

    def _longest(self) -> int | None:
        lengths = [self.part.max_length, context_length(self.model.config)]
        return min((length for length in lengths if length is not None), default=None)

    def logits(self, rows: Sequence[Sequence[int]], pad: int | None = None) -> list[float]:
        """The classifier's logit of each row of ids, padded on the right with `pad`."""
        import torch

        filler = self._pad_id() if pad is None else pad
        width = max(map(len, rows))
        padded = [[*ids, *[filler] * (width - len(ids))] for ids in rows]
        device = self.model.device
        mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in rows], device=device)
        with torch.inference_mode():
            return self._forward(torch.tensor(padded, device=device), mask)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> list[float]:
        import torch

        head = getattr(self.model, "score", None)
        if not isinstance(head, torch.nn.Linear):  # an encoder, which reads its first token
            logits = self.model(input_ids=ids, attention_mask=mask).logits
            return [float(value) for value in logits.float()[:, 0]]
        # The stock class looks for the last token by pad id, which errs where that is also EOS.
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(-1) - 1].float()
        bias = None if head.bias is None else head.bias.float()
        values = torch.nn.functional.linear(last, head.weight.float(), bias)
        return [float(value) for value in values[:, 0]]

    def _pad_id(self) -> int:
        known = (self.tokenizer.pad_token_id, self.model.config.pad_token_id)
        return next((int(token) for token in known if token is not None), 0)

    def check_itself(self) -> None:
        """Raises `PartError` where padding or batch neighbours change a score.

        The content of the padding must not matter in any number format; being alone or in a
        batch must not matter in float32, and what it does in 16 bits is logged.
        """
        rows = self._probe_rows()
        batched = self.logits(rows)
        other = (self._pad_id() + 1) % self.model.config.get_text_config().vocab_size
        self._compare("the content of the padding", batched, self.logits(rows, pad=other), True)
        alone = [self.logits([ids])[0] for ids in rows]
        self._compare("a batch", batched, alone, self.part.dtype == "float32")

    def _probe_rows(self) -> list[list[int]]:
        most = self._longest()
        rows = [
            chat.render_conversation(
                self.tokenizer,
                [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}],
            )
            for asked, answered in _PROBES
        ]
        return [ids[:most] for ids in rows]

    def _compare(
        self, what: str, one: Sequence[float], other: Sequence[float], strictly: bool
    ) -> None:
        spread = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(one, other, strict=True))
        name = model_name(self.part.model)
        _LOG.info("%s: %s changes its scores by at most %.1e", name, what, spread)
        if strictly and not spread <= _TOLERANCE:
            raise PartError(
                f"the reward model {self.part.model} is not batch-invariant: {what} changes the "
                f"score of a conversation by {spread:.1e} (at most {_TOLERANCE:.0e} is right; "
                f"scores {_listed(one)} against {_listed(other)}). Its scores would depend on "
                "their neighbours. Use dtype: float32, or a model whose attention heeds the mask."
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
