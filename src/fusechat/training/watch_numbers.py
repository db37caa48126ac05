"""What a look at held-out rows says: numbers from log-probabilities, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusechat.training.examples import Example
from fusechat.training.reference import Known
from fusechat.training.step import Terms

if TYPE_CHECKING:
    import torch

    from fusechat.parts import Loss

_SHARES = ("accuracies", "normalized_accuracies")


def held_out_numbers(
    loss: Loss,
    examples: Sequence[Example],
    logps: torch.Tensor,
    start: torch.Tensor,
    known: Known,
    *,
    progress: float,
) -> dict[str, float]:
    """Loss and metrics of the held-out rows; of each side `logps_*`, `token_logps_*`, `lengths_*`.

    `logps`, `start`: nats of whole responses, float64 `[rows, sides]`, now and before training.
    `known`: of these rows; its reference is `start`. The loss is divided as a step's is; all else
    are means over the rows. `normalized_margins` (nats of a token: how much the log-probability of
    the chosen side has risen since the start, less that of the rejected side) and
    `normalized_accuracies` are there for every loss with a rejected side, whatever it compares.
    Shares of pairs ranked right are left out where no margin has moved from 0: nothing is ranked.
    """
    terms = Terms(loss)
    lengths = _lengths(examples).to(logps.device)
    named, counts = terms.named(logps.T.reshape(-1), lengths.T.reshape(-1), known)
    losses, metrics = loss(named, counts, progress)
    weights = logps.new_tensor([example.weight for example in examples])
    out = {"loss": float((losses.double() * weights).sum()) / terms.divisor(examples)}
    metrics = {**_normalized(loss.sides, logps, start, lengths), **metrics}
    out |= {name: float(values.double().mean()) for name, values in sorted(metrics.items())}
    for place, side in enumerate(loss.sides):
        of_side = logps[:, place]
        out[f"logps_{side}"] = float(of_side.mean())
        out[f"token_logps_{side}"] = float((of_side / lengths[:, place]).mean())
        out[f"lengths_{side}"] = float(lengths[:, place].double().mean())
    for share, margin in zip(_SHARES, ("margins", "normalized_margins"), strict=True):
        if share in out and margin in metrics and not bool(metrics[margin].any()):
            del out[share]
    return out


def _lengths(examples: Sequence[Example]) -> torch.Tensor:
    import torch

    return torch.tensor([[text.length for text in e.texts] for e in examples])


def _normalized(
    sides: Sequence[str], logps: torch.Tensor, start: torch.Tensor, lengths: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The margins per token of each row; none where there is nothing to hold a side against."""
    if "rejected" not in sides:
        return {}
    rises = (logps - start) / lengths.clamp(min=1)
    margins = rises[:, chosen_place(sides)] - rises[:, sides.index("rejected")]
    return {
        "normalized_margins": margins,
        "normalized_accuracies": (margins > 0).to(margins.dtype),
    }


def chosen_place(sides: Sequence[str]) -> int:
    """Which side is the preferred one: of several the target's own, which stands last."""
    return max(place for place, side in enumerate(sides) if side != "rejected")


def answer_numbers(
    lengths: Sequence[int], cut: Sequence[bool], start: Sequence[int]
) -> dict[str, float]:
    """Of the answers to some prompts: how long they are, how many were cut.

    `lengths`, `start`: tokens of each answer now and before training, the end of turn included and
    a cut answer counted as long as it was let be. `length_ratio`: geometric mean of each answer's
    length over its first length, so that one runaway answer does not stand for all;
    `log_length_ratio_error`: the standard error of its logarithm, there from two answers on.
    """
    ratios = [
        math.log(max(now, 1) / max(then, 1)) for now, then in zip(lengths, start, strict=True)
    ]
    n, mean = len(ratios), math.fsum(ratios) / len(ratios)
    numbers = {
        "answers": n,
        "lengths_answer": sum(lengths) / n,
        "length_ratio": math.exp(mean),
        "cut_answers": sum(cut) / n,
    }
    if n > 1:
        spread = math.fsum((ratio - mean) ** 2 for ratio in ratios) / (n - 1)
        numbers["log_length_ratio_error"] = math.sqrt(spread / n)
    return numbers


def kl_numbers(
    start: Sequence[float], now: Sequence[float], tokens: Sequence[int]
) -> dict[str, float]:
    """An estimate of KL(start || now), nats of a token, from responses that the start drew.

    With `y_i ~ start(. | x_i)`, drawn at temperature 1 and cut at `tokens_i` tokens at the latest:
    `kl = sum_i (log start(y_i | x_i) - log now(y_i | x_i)) / sum_i |y_i|`. The numerator is
    unbiased for the sum of the KL divergences of the responses' distributions (up to the cut), and
    no second model is held for it: `log start` was kept. It is 0 before training, grows as the
    model moves away from what it used to say, and can be a little below 0 by chance. It is not
    KL(now || start), which preference losses hold down and which needs the first model's
    log-probabilities of new responses: what the model has newly come to say shows up here only by
    what it no longer says. `kl_error`: the standard error of that ratio over the responses.
    """
    gaps = [before - after for before, after in zip(start, now, strict=True)]
    total, n = sum(tokens), len(tokens)
    ratio = math.fsum(gaps) / total
    left = math.fsum((gap - ratio * count) ** 2 for gap, count in zip(gaps, tokens, strict=True))
    numbers: dict[str, float] = {"kl": ratio, "kl_tokens": total}
    if n > 1:
        numbers["kl_error"] = math.sqrt(left * n / (n - 1)) / total
    return numbers
