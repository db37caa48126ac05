"""The self-test of reward models: does a score depend on how it was computed?

At each start a few conversations of usual lengths are scored alone and as the job will score
them. In float32 both must be equal within `TOLERANCE`. In 16 bits they never are: there the
largest difference (the *spread*) goes into the unit's manifest, and where a build rule accepts
margins that are less than ten times as large, the run stops.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusechat.annotators._scoring import Body, Conversation, Judge, UnreadableError
from fusechat.annotators._shared_attention import window
from fusechat.errors import PartError
from fusechat.local_models import context_length, model_name

_LOG = logging.getLogger(__name__)
TOLERANCE = 1e-5
"""Largest difference in float32, for scores of up to 1 (else relative)."""
_MARGIN_SPREADS = 10
"""A margin must be so many times the spread."""
_WORSE, _SHARE = 4, 0.1
"""In 16 bits, sharing may spread so many times as far as padding, or over so much of the range of
the scores, before it is distrusted: a response that did not see its prompt would do far worse."""
_ASKED = (
    "What is 12 - 5?",
    "Name three primes and say why each of them is one. Then write a short function in Python "
    "that tells primes from other numbers, and explain how long it takes for large ones.\n",
    "Here are my notes on the fox: it is red, it is clever, it lives in the forest at the river, "
    "and in winter it comes to the village. Please turn them into a story for children, with a "
    "beginning, a middle and an end; 请用简单的句子。\n",
)
_ANSWERED = (
    "12 - 5 = 7, so the answer is 7.",
    "Two, three and five are primes: none of them can be divided by a smaller number above 1.\n"
    "def prime(n):\n    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))\n",
    "Once upon a time there was a red fox that lived in the forest, where the river is deep. "
    "Every winter, when the snow lay high, it went to the village and looked for something to "
    "eat; and every spring it ran home. 从前有一只聪明的红狐狸。\n",
)
_REPEATS = ((1, 1, 1), (1, 3, 1), (4, 2, 6))
"""How often each prompt, and each response, is repeated: [prompt][response]."""
_PROMPT_REPEATS = (1, 2, 3)


@dataclass(frozen=True)
class _Probes:
    conversations: list[Conversation]
    prompts: list[str]
    alone: list[float]
    """Their scores, computed one by one."""

    def spread(self, values: Sequence[float]) -> float:
        """Largest difference to the scores one by one, in the model's units."""
        pairs = zip(self.alone, values, strict=True)
        return max((abs(a - b) for a, b in pairs), default=0.0)

    def equal(self, values: Sequence[float], other: Sequence[float] | None = None) -> bool:
        """Whether scores are those one by one (or `other`) within the tolerance of float32."""
        pairs = zip(self.alone if other is None else other, values, strict=True)
        return all(abs(a - b) <= TOLERANCE * max(1.0, abs(a)) for a, b in pairs)


def tested(judge: Judge, least_margin: float | None) -> Judge:
    """The judge in the fastest way that leaves its scores as they are one by one, with notes.

    Raises `PartError` where no way does, where a score is no number, or where the spread is
    more than a tenth of `least_margin`, the smallest margin that a build rule accepts.
    """
    probes = _probes(judge)
    strict = judge.part.dtype == "float32"
    if judge.body.length_dependent:
        found, values = replace(judge.body, way="alone"), probes.alone
    elif strict:
        found, values = _first_equal(judge, probes)
    else:
        found, values = _least_spread(judge, probes)
    if found.way == "padded":
        _check_padding(judge, found, probes, values)
    elif found.way == "shared" and window(found.network) is not None:  # longer ones are padded
        padded = replace(found, way="padded")
        _check_padding(judge, padded, probes, _by(judge, padded, probes))
    spread = probes.spread(values)
    test: dict[str, Any] = {
        "dtype": judge.part.dtype,
        "way": found.way,
        "conversations": len(values),
    }
    test |= {"spread": spread, "least_margin": least_margin}
    _LOG.info("%s: self-test %s", model_name(judge.part.model), test)
    if least_margin is not None and spread > least_margin / _MARGIN_SPREADS:
        raise PartError(_too_coarse(judge, spread, least_margin))
    return replace(judge, body=found, notes={"self_test": test, **judge.head.notes()})


def _probes(judge: Judge) -> _Probes:
    most = context_length(judge.body.network.config)
    conversations: list[Conversation] = []
    prompts: list[str] = []
    for number, (asked, times) in enumerate(zip(_ASKED, _PROMPT_REPEATS, strict=True)):
        messages = [{"role": "user", "content": asked * times}]
        for answered, often in zip(_ANSWERED, _REPEATS[number], strict=True):
            if most is not None and len(asked * times + answered * often) > 2 * most:
                continue  # surely too long, and tokenizers warn of it
            try:
                conversation = judge.render(messages, answered * often)
            except UnreadableError as error:
                raise PartError(_unreadable(judge, str(error))) from error
            if most is None or len(conversation.ids) <= most:
                conversations.append(conversation)
                prompts.append(str(number))
    alone = replace(judge, body=replace(judge.body, way="alone"))
    return _Probes(conversations, prompts, _values(alone, conversations, prompts))


def _values(
    judge: Judge, conversations: Sequence[Conversation], prompts: Sequence[str]
) -> list[float]:
    values = [verdict.value for verdict in judge.verdicts(conversations, prompts)]
    if not all(map(math.isfinite, values)):
        raise PartError(
            f"the reward model {judge.part.model} gives scores that are no finite numbers "
            f"({_listed(values)}) in {judge.part.dtype}. Its weights are broken, or too large for "
            "the number format: try dtype: float32, or fetch it again."
        )
    return values


def _by(judge: Judge, body: Body, probes: _Probes) -> list[float]:
    return _values(replace(judge, body=body), probes.conversations, probes.prompts)


def _first_equal(judge: Judge, probes: _Probes) -> tuple[Body, list[float]]:
    values: list[float] = []
    for body in judge.body.ways():
        values = _by(judge, body, probes)
        if probes.equal(values):
            return body, values
        _LOG.warning("%s: the way '%s' changes its scores", judge.part.model, body.way)
    raise PartError(_differs(judge, "a batch", probes.alone, values))


def _least_spread(judge: Judge, probes: _Probes) -> tuple[Body, list[float]]:
    """The shared way, unless it is much worse than what padding does in 16 bits anyway."""
    found = [(body, _by(judge, body, probes)) for body in judge.body.ways()]
    scores = probes.alone
    allowed = _SHARE * (max(scores) - min(scores)) if scores else 0.0
    allowed = max(allowed, _WORSE * probes.spread(found[-1][1]))
    return next(pair for pair in found if probes.spread(pair[1]) <= allowed)


def _check_padding(judge: Judge, body: Body, probes: _Probes, values: Sequence[float]) -> None:
    """What stands in the padding must not matter at all, in any number format."""
    other = _by(judge, replace(body, pad=(body.pad + 1) % body.vocabulary), probes)
    if not probes.equal(other, values):
        raise PartError(_differs(judge, "the content of the padding", values, other))


def _differs(judge: Judge, what: str, one: Sequence[float], other: Sequence[float]) -> str:
    spread = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return (
        f"the reward model {judge.part.model} is not batch-invariant: {what} changes the "
        f"score of a conversation by {spread:.1e} (at most {TOLERANCE:.0e} is right; "
        f"scores {_listed(one)} against {_listed(other)}). Its scores would depend on "
        "their neighbours. Use dtype: float32, or a model whose attention heeds the mask."
    )


def _too_coarse(judge: Judge, spread: float, least_margin: float) -> str:
    return (
        f"the reward model {judge.part.model} in {judge.part.dtype} gives a conversation scores "
        f"that differ by up to {spread:.2g} with the way they are computed, but a build rule "
        f"accepts margins from {least_margin:g} on: {spread:.2g} is more than a tenth of that, so "
        "pairs would be chosen by rounding. Say dtype: float32 for this annotator, or raise "
        f"min_margin to {_MARGIN_SPREADS * spread:.2g} or more (allow_narrow_window: true goes on)."
    )


def _unreadable(judge: Judge, reason: str) -> str:
    return (
        f"the reward model {judge.part.model} cannot read an ordinary conversation: {reason} "
        f"(its embedding has {judge.body.vocabulary} rows, its tokenizer {len(judge.tokenizer)} "
        "tokens). Its tokenizer is that of another model; copy the one published with it."
    )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:.6f}" for value in values[:4])
