"""Warnings from the curves of a training run: what drifts, since when, and what to try.

Pure functions of the lines of `metrics.jsonl` (one a step) and `watch.jsonl` (one a look). The
thresholds are set where nothing good is known to look like it, and wide of chance; a run can
fail without crossing any, so that no warning is no proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Line = Mapping[str, Any]

CHOSEN_FALL = 0.25
"""Nats of a token below the start: each token of the preferred responses has become 22% less
likely. Preference losses let both sides fall somewhat (Smaug, arXiv 2402.13228; likelihood
displacement, arXiv 2410.08847); from here on other responses than either take their place."""
FALLING_LOOKS = 3
"""Looks over which a curve must be at its lowest to count as falling still."""
LENGTH_RATIO = (0.5, 2.0)
"""Answers half or twice as long as before, by more than two standard errors: beyond what preferred
responses of like length teach."""
CUT_RISE = 0.25
"""More answers are cut at `max_new_tokens` than before, by this share of all: they do not end."""
LEAST_ANSWERS = 4
"""Fewer say nothing of the model."""
CHANCE = 0.02
"""Ranking so few held-out pairs right must be rarer than this for a coin."""
HELD_OUT_FALL = 2.0
"""Standard errors by which the share of held-out pairs ranked right lies below its best, while
that of the training pairs rises: it is learnt by heart."""
LEAST_FALL = 0.1
"""That share must have fallen by at least this much, too."""
KL_BOUND = 0.5
"""Nats of a token: what the first model would say has become 40% less likely with each token."""
SPIKE = 10.0
"""Times the median gradient norm of the steps before."""
SPIKE_WINDOW = 50
SPIKE_SHARE = 0.01
"""A single clipped step does no harm; this share of all steps, and at least two, does."""
MARGIN_TOKEN, MARGIN_RESPONSE = 1.0, 100.0
"""Nats by which the sides of a pair have been moved apart, of a token and of a whole response:
twice where length-normalized DPO (beta 10) and DPO (beta 0.1) have no gradient left to speak of
(sigma(5) = 0.993). Further steps move probability from anywhere to anywhere."""
MEAN_OF = 10
"""Steps over which curves of training batches are averaged."""

_MILDER = ("a lower learning_rate", "a larger beta", "fewer steps (num_train_epochs)")


@dataclass(frozen=True)
class Drift:
    """One thing that went wrong in a run."""

    kind: str
    step: int
    """When it was first seen."""
    last: int
    """When it was last seen."""
    text: str
    """What was seen at that last step, in a sentence."""
    advice: tuple[str, ...]
    """What to try, the likeliest first."""

    def plain(self) -> dict[str, Any]:
        """As JSON, for a manifest."""
        return {**asdict(self), "advice": list(self.advice)}


Said = tuple[str, str, tuple[str, ...]]
"""Kind, text and advice."""


def find_drift(lines: Sequence[Line], looks: Sequence[Line]) -> list[Drift]:
    """All that drifted in a run of which these are the curves so far, by first step.

    `lines`: of `metrics.jsonl`; `looks`: of `watch.jsonl`; both by rising step, both may be empty.
    """
    found: dict[str, Drift] = {}
    for step, (kind, text, advice) in _all(lines, looks):
        seen = found.get(kind, Drift(kind, step, step, text, advice))
        later = step >= seen.last
        found[kind] = Drift(
            kind, min(seen.step, step), max(seen.last, step),
            text if later else seen.text, advice if later else seen.advice,
        )  # fmt: skip
    return sorted(found.values(), key=lambda one: (one.step, one.kind))


def _all(lines: Sequence[Line], looks: Sequence[Line]) -> Iterator[tuple[int, Said]]:
    checks: tuple[Callable[..., Said | None], ...] = (
        chosen_falls, length_runs, answers_do_not_end, kl_is_large, worse_than_a_coin,
    )  # fmt: skip
    for number in range(1, len(looks)):
        so_far = looks[: number + 1]
        for check in checks:
            if said := check(so_far):
                yield so_far[-1]["step"], said
        trained = [line for line in lines if line["step"] <= so_far[-1]["step"]]
        if said := learnt_by_heart(trained, so_far):
            yield so_far[-1]["step"], said
        if said := held_out_margins_explode(so_far):
            yield so_far[-1]["step"], said
    yield from gradient_spikes(lines)
    yield from margins_explode(lines)


def chosen_falls(looks: Sequence[Line]) -> Said | None:
    """Whether the preferred responses have become less likely and go on doing so."""
    name = next((n for n in looks[-1] if _is_chosen(n)), None)
    if name is None or any(name not in look for look in looks):
        return None
    curve = [look[name] for look in looks]
    fall = curve[0] - curve[-1]
    if fall <= CHOSEN_FALL or curve[-1] > min(curve[-FALLING_LOOKS:]):
        return None
    text = (
        f"held-out preferred responses are {fall:.2f} nats a token less likely than before "
        f"training (from {curve[0]:.2f} to {curve[-1]:.2f}), and still fall."
    )
    by_length = "length_normalized_dpo, where the loss sums over tokens"
    sft = "a loss with a term for the chosen response, or more SFT before"
    return "chosen_falls", text, (*_MILDER[:2], by_length, sft)


def _is_chosen(name: str) -> bool:
    return name.startswith("held_out_token_logps_") and name.endswith(("_chosen", "_response"))


def length_runs(looks: Sequence[Line]) -> Said | None:
    """Whether answers have become much longer or shorter than before training."""
    last = looks[-1]
    ratio = last.get("length_ratio")
    if ratio is None or last["answers"] < LEAST_ANSWERS:
        return None
    low, high = LENGTH_RATIO
    chance = math.exp(2 * last.get("log_length_ratio_error", 0.0))
    if low <= ratio * chance and ratio / chance <= high:
        return None
    text = (
        f"answers to held-out prompts are {ratio:.2g} times as long as before training "
        f"({looks[0].get('lengths_answer', math.nan):.0f} tokens then, "
        f"{last['lengths_answer']:.0f} now)."
    )
    by_length = "length_normalized_dpo, where the loss sums over tokens: sums reward length"
    pairs = "pairs whose sides are of like length (a tighter margin window)"
    return "length_runs", text, (by_length, pairs, *_MILDER[:2])


def answers_do_not_end(looks: Sequence[Line]) -> Said | None:
    """Whether answers that used to end are cut."""
    last, first = looks[-1], looks[0]
    if "cut_answers" not in last or "cut_answers" not in first:
        return None
    if last["answers"] < LEAST_ANSWERS or last["cut_answers"] - first["cut_answers"] <= CUT_RISE:
        return None
    text = (
        f"{last['cut_answers']:.0%} of the answers to held-out prompts are cut at "
        f"max_new_tokens ({first['cut_answers']:.0%} before training): the model no longer ends "
        "them."
    )
    ends = "a look at whether the training responses are whole (over_length: drop)"
    return "answers_do_not_end", text, (ends, *_MILDER)


def kl_is_large(looks: Sequence[Line]) -> Said | None:
    """Whether the model has moved far from what it said before training."""
    last = looks[-1]
    if "kl" not in last or last["kl"] - 2 * last.get("kl_error", 0.0) <= KL_BOUND:
        return None
    text = (
        f"the model has moved {last['kl']:.2f} nats a token away from what it said before "
        "training (KL of its first to its present distribution)."
    )
    return "kl_is_large", text, _MILDER


def worse_than_a_coin(looks: Sequence[Line]) -> Said | None:
    """Whether fewer held-out pairs are ranked right than a coin would rank."""
    last = looks[-1]
    share, n = last.get("held_out_accuracies"), last.get("held_out_rows", 0)
    if share is None or not n or _at_most(round(share * n), n) >= CHANCE:
        return None
    text = f"only {share:.0%} of {n} held-out pairs are ranked right, fewer than a coin would."
    noise = "a look at the pairs: labels may be noise, or the wrong way round for these prompts"
    window = "a tighter margin window, so that the sides differ clearly"
    return "worse_than_a_coin", text, (noise, window, _MILDER[0])


def _at_most(right: int, n: int) -> float:
    """How often a coin is right at most so often of `n`."""
    return float(sum(math.comb(n, k) for k in range(right + 1)) / 2**n)


def learnt_by_heart(lines: Sequence[Line], looks: Sequence[Line]) -> Said | None:
    """Whether held-out pairs are ranked worse than before, and training pairs are not."""
    name = "held_out_accuracies"
    seen = [look for look in looks if name in look]
    own = [line["accuracies"] for line in lines if "accuracies" in line]
    if len(seen) < 2 or len(own) < 2 * MEAN_OF:
        return None
    best, last, n = max(look[name] for look in seen), seen[-1][name], seen[-1]["held_out_rows"]
    middle = (best + last) / 2
    error = math.sqrt(2 * middle * (1 - middle) / n)
    now, then = (sum(part) / MEAN_OF for part in (own[-MEAN_OF:], own[-2 * MEAN_OF : -MEAN_OF]))
    if best - last <= max(LEAST_FALL, HELD_OUT_FALL * error) or now < then:
        return None
    text = (
        f"of the held-out pairs {last:.0%} are ranked right, down from {best:.0%}, while the "
        f"training pairs are at {now:.0%} and do not fall."
    )
    return "learnt_by_heart", text, (_MILDER[2], _MILDER[0], "more prompts", _MILDER[1])


def held_out_margins_explode(looks: Sequence[Line]) -> Said | None:
    """The same as `margins_explode` of the held-out rows, where the loss logs no such margin."""
    last = looks[-1]
    margin, length = (
        last.get(f"held_out_{name}") for name in ("normalized_margins", "lengths_rejected")
    )
    return None if margin is None or length is None else _exploded(margin, length, "held-out")


def margins_explode(lines: Sequence[Line]) -> Iterator[tuple[int, Said]]:
    """Steps at which training pairs were pulled further apart than any loss asks for."""
    name = "normalized_margins"
    own = [line for line in lines if name in line and "lengths_rejected" in line]
    for end in range(MEAN_OF, len(own) + 1):
        part = own[end - MEAN_OF : end]
        margin, length = (_mean(part, key) for key in (name, "lengths_rejected"))
        if said := _exploded(margin, length, "training"):
            yield part[-1]["step"], said


def _exploded(margin: float, length: float, which: str) -> Said | None:
    if margin <= MARGIN_TOKEN or margin * length <= MARGIN_RESPONSE:
        return None
    text = (
        f"the sides of {which} pairs have been moved {margin:.1f} nats a token apart "
        f"({margin * length:.0f} a response): there is nothing left to learn from them."
    )
    return "margins_explode", text, (_MILDER[2], *_MILDER[:2])


def gradient_spikes(lines: Sequence[Line]) -> Iterator[tuple[int, Said]]:
    """Steps whose gradient is far above those before, where there are enough of them."""
    norms = [(line["step"], line["grad_norm"]) for line in lines if "grad_norm" in line]
    spikes = []
    for place in range(MEAN_OF, len(norms)):
        usual = median(norm for _, norm in norms[max(0, place - SPIKE_WINDOW) : place])
        step, norm = norms[place]
        if usual > 0 and norm > SPIKE * usual:
            spikes.append((step, norm / usual))
    if len(spikes) < max(2, SPIKE_SHARE * len(norms)):
        return
    step, times = max(spikes, key=lambda one: one[1])
    text = (
        f"{len(spikes)} steps had a gradient more than {SPIKE:g} times as large as usual "
        f"(step {step}: {times:.0f} times)."
    )
    longer = "a longer warm-up (warmup_steps)"
    said = ("gradient_spikes", text, (_MILDER[0], longer, "a larger global_batch_size"))
    for place, _ in (spikes[0], spikes[-1]):
        yield place, said


def _mean(lines: Sequence[Line], name: str) -> float:
    return math.fsum(line[name] for line in lines) / len(lines)
