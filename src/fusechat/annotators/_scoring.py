"""Scoring conversations with a reward model in this process: shared by all annotators of that kind.

`RewardPart` holds their settings, `Judge` turns candidates into scores, `Body` computes hidden
states. A body has one of three ways (`Way`): *shared* computes what the responses of a prompt
have in common once and pads nothing (but conversations longer than a sliding window, it pads);
*padded* sorts by length and pads on the right; *alone* takes one conversation at a time. What a
score is does not depend on the way beyond rounding, which `_scoring_check.py` measures at each
start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from fusechat import chat
from fusechat.annotators import _shared_attention as attention
from fusechat.annotators._shared_prompt import (
    cut_by_prompt,
    grouped,
    lay_out,
    packs,
    padded_batches,
    pieces,
)
from fusechat.local_models import Dtype, context_length, model_faults, using
from fusechat.parts import SPEED, Annotator, ModelName, Where, Work
from fusechat.records import Candidate, Score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Way = Literal["shared", "padded", "alone"]
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
_HALVES = re.compile("[\ud800-\udfff]")
_MOST_CHARACTERS_A_TOKEN = 256
"""No tokenizer makes tokens so long on average; texts beyond it are not tokenised to be refused."""


@dataclass(frozen=True)
class Conversation:
    """A prompt with one response, as token ids, and the tokens whose hidden states are read."""

    ids: tuple[int, ...]
    points: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """A score on the model's own scale; `details` is JSON."""

    value: float
    details: str | None = None


class Head(Protocol):
    """What makes a score of hidden states, in float32 whatever the body's number format."""

    def points(self, messages: chat.Messages, ids: Sequence[int]) -> tuple[int, ...]:
        """Positions of the tokens that it reads; raises `UnreadableError` where there is none."""
        ...

    def verdicts(self, states: torch.Tensor) -> list[Verdict]:
        """The scores of `states [rows, points, width]`."""
        ...

    def notes(self) -> dict[str, Any]:
        """What the unit's manifest says of it."""
        ...


class UnreadableError(Exception):
    """A conversation in which a head does not find what it reads; the text is a score's reason."""


@dataclass(frozen=True)
class Body:
    """A network, and how conversations go through it."""

    network: Any
    """A decoder that gives hidden states; an encoder with its own head gives logits instead."""
    pad: int
    way: Way
    decoder: bool = True

    def states(
        self, rows: Sequence[Conversation], groups: Sequence[Sequence[int]], budget: int
    ) -> torch.Tensor:
        """The hidden states that are wanted, `[rows, points, width]`, float32.

        `groups`: positions of the rows of each prompt. `budget`: tokens of one forward pass,
        unless a single conversation is longer.
        """
        import torch

        forward = self._packs if self.way == "shared" else self._batches
        with torch.inference_mode():
            found = dict(forward(rows, groups, budget))
            return torch.stack([found[row] for row in range(len(rows))])

    def _packs(
        self, rows: Sequence[Conversation], groups: Sequence[Sequence[int]], budget: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        import torch

        device = self.network.device
        ids = [row.ids for row in rows]
        most = attention.window(self.network) or max(map(len, ids))
        long = [row for row, of in enumerate(ids) if len(of) > most]
        for place, states in self._batches([rows[row] for row in long], (), budget):
            yield long[place], states
        short = [[row for row in group if len(ids[row]) <= most] for group in groups]
        for chosen in packs(ids, pieces(ids, short, budget), budget):
            pack = lay_out(ids, chosen)
            with attention.packed(self.network, pack.segments):
                hidden = self.network(
                    input_ids=torch.tensor([pack.ids], device=device),
                    position_ids=torch.tensor([pack.positions], device=device),
                    attention_mask=attention.no_mask(device),
                    use_cache=False,
                ).last_hidden_state[0]
            for row in pack.origins:
                wanted = [pack.at(row, point) for point in rows[row].points]
                yield row, hidden[wanted].float()

    def _batches(
        self, rows: Sequence[Conversation], groups: Sequence[Sequence[int]], budget: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        most = 1 if self.way == "alone" else None
        for batch in padded_batches([row.ids for row in rows], budget, most):
            yield from zip(batch, self._padded([rows[row] for row in batch]), strict=True)

    def _padded(self, rows: Sequence[Conversation]) -> Iterator[torch.Tensor]:
        import torch

        width = max(len(row.ids) for row in rows)
        fill = [width - len(row.ids) for row in rows]
        padded = [[*row.ids, *[self.pad] * n] for row, n in zip(rows, fill, strict=True)]
        mask = [[1] * len(row.ids) + [0] * n for row, n in zip(rows, fill, strict=True)]
        given = {"input_ids": padded, "attention_mask": mask}
        tensors = {n: torch.tensor(v, device=self.network.device) for n, v in given.items()}
        if not self.decoder:
            yield from self.network(**tensors).logits.float()[:, None]
            return
        hidden = self.network(**tensors, use_cache=False).last_hidden_state
        for number, row in enumerate(rows):
            yield hidden[number, list(row.points)].float()

    def ways(self) -> Iterator[Body]:
        """The same network's ways, the fastest that is open to it first."""
        if self.decoder and attention.can_share(self.network):
            yield replace(self, way="shared")
        yield replace(self, way="padded")

    @property
    def vocabulary(self) -> int:
        """Token ids that it has an embedding of."""
        return int(self.network.get_input_embeddings().weight.shape[0])

    @property
    def length_dependent(self) -> bool:
        """Whether positions are stretched by the longest row of a forward pass."""
        rope = getattr(self.network.config.get_text_config(), "rope_parameters", None) or {}
        return rope.get("rope_type") in _LENGTH_DEPENDENT_ROPE


class RewardPart(Annotator):
    """Base of the reward models: their settings, and what happens around a `Judge`."""

    requires: ClassVar[Mapping[str, str]] = {"torch": "local", "transformers": "local"}
    on_device: ClassVar[bool] = True

    model: ModelName
    dtype: Dtype = "auto"
    max_length: int | None = Field(default=None, ge=1)
    """Longer conversations (in tokens) are unscorable; none means the model's context."""
    batch_tokens: Annotated[int, SPEED] = Field(default=8192, ge=1)
    """Tokens of one forward pass; fewer need less memory."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """A model folder without configuration, weights, tokenizer or chat template."""
        yield from super().faults()
        for message in model_faults(self.model, "reward"):
            yield "model", message

    def cut(self, rows: Sequence[Candidate]) -> list[list[Candidate]]:
        """Batches of whole prompts, so that what their responses share is computed once."""
        return cut_by_prompt(rows, self.batch_tokens)

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Load and test the model; the work scores what it is given as one batch."""
        from fusechat.annotators._scoring_check import tested

        with using(where, f"the annotator '{self.part_name()}'") as device:
            yield tested(self._judge(device), where.least_margin)

    def _judge(self, device: torch.device) -> Judge:
        raise NotImplementedError(f"{type(self).__name__} must define _judge()")


@dataclass(frozen=True)
class Judge:
    """A loaded reward model with its tokenizer and head; calling it scores a batch."""

    part: RewardPart
    tokenizer: PreTrainedTokenizerBase
    body: Body
    head: Head
    notes: dict[str, Any]
    """For the unit's manifest: what the self-test found."""

    def __call__(self, candidates: Iterator[Any]) -> Iterator[Any]:
        """A score for each candidate, those that cannot be judged first."""
        able: list[tuple[Candidate, Conversation]] = []
        for candidate in candidates:
            found = self._conversation(candidate)
            if isinstance(found, Score):
                yield found
            else:
                able.append((candidate, found))
        prompts = [candidate.prompt.id for candidate, _ in able]
        verdicts = self.verdicts([conversation for _, conversation in able], prompts)
        for (candidate, _), verdict in zip(able, verdicts, strict=True):
            if math.isfinite(verdict.value):
                yield candidate.score(verdict.value, details=verdict.details)
            else:
                yield candidate.error("the reward model's score is not a finite number")

    def verdicts(
        self, conversations: Sequence[Conversation], prompts: Sequence[str]
    ) -> list[Verdict]:
        """The scores of conversations; identical ones are computed once.

        `prompts`: of each, an id that is the same for conversations with the same prompt.
        """
        if not conversations:
            return []
        same = grouped([conversation.ids for conversation in conversations])
        unique = [conversations[members[0]] for members in same]
        groups = grouped([prompts[members[0]] for members in same])
        states = self.body.states(unique, groups, self.part.batch_tokens)
        found = self.head.verdicts(states)
        out = {row: found[n] for n, members in enumerate(same) for row in members}
        return [out[row] for row in range(len(conversations))]

    def render(self, messages: chat.Messages, answer: str) -> Conversation:
        """The conversation as ids; raises `chat.ChatTemplateError` or `UnreadableError`."""
        turns = chat.answered(messages, answer)
        if any(map(_broken, (turn["content"] for turn in turns))):
            raise UnreadableError("the text is not valid Unicode")
        ids = chat.render_conversation(self.tokenizer, turns)
        if max(ids) >= self.body.vocabulary:
            raise UnreadableError("a token id beyond the reward model's vocabulary")
        return Conversation(tuple(ids), self.head.points(messages, ids))

    def longest(self) -> int | None:
        """Most tokens of a conversation that are scored; None: any number."""
        lengths = [self.part.max_length, context_length(self.body.network.config)]
        return min((length for length in lengths if length is not None), default=None)

    def _conversation(self, candidate: Candidate) -> Conversation | Score:
        """The conversation's ids, or the verdict that there is nothing to score."""
        if reason := _unscorable(candidate):
            return candidate.unscorable(reason)
        most = self.longest()
        too_long = candidate.unscorable("longer than the reward model's context")
        text = candidate.response.text
        if most is not None and len(text) > most * _MOST_CHARACTERS_A_TOKEN:
            return too_long
        try:
            found = self.render(candidate.prompt.chat(), text)
        except (chat.ChatTemplateError, UnreadableError) as error:
            return candidate.error(str(error))
        return too_long if most is not None and len(found.ids) > most else found


def _broken(text: str) -> bool:
    """Whether a text holds half a character, which tokenizers refuse."""
    return _HALVES.search(text) is not None


def _unscorable(candidate: Candidate) -> str:
    response = candidate.response
    if response.finish == "error":
        return "failed response"
    if response.finish == "length":
        return "cut response"
    return "" if response.whole else "empty response"


def pad_id(tokenizer: PreTrainedTokenizerBase, config: Any) -> int:
    """What stands in padding; 0 where neither tokenizer nor model says."""
    known = (tokenizer.pad_token_id, config.get_text_config().pad_token_id)
    return next((int(token) for token in known if token is not None), 0)
