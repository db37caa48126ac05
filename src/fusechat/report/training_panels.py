"""Which charts a training run gives, in which order, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusechat.report.plots import Level, Series

# Bookkeeping columns of metrics.jsonl and watch.jsonl, which are no curves.
_NO_CURVES = {
    "step", "epoch", "progress", "seconds", "time", "rows", "pairs", "examples", "samples",
    "answers", "length_ratio", "log_length_ratio_error", "kl_tokens", "kl_error",
}  # fmt: skip
_SIDES = ("source_chosen", "target_chosen", "chosen", "rejected", "response")
_COLOURS = {"chosen": "chosen", "target_chosen": "chosen", "rejected": "rejected"}
_HELD_OUT = ("eval_", "held_out_", "validation_")
_LOOKED = ("lengths_answer", "cut_answers", "kl")
"""Columns of watch.jsonl that are not of held-out rows, but of answers."""
_FROM_START = ("held_out_token_logps", "held_out_logps", "lengths_answer", "cut_answers")
"""Charts with a fine line at the value before training."""


@dataclass(frozen=True)
class About:
    """What is said of a chart."""

    title: str
    what: str = ""
    """How to read it, in a sentence."""
    first: bool = True
    """Whether it is seen at once; others are folded away."""


_ABOUT = {
    "loss": About("Loss", "What training lowers; a point is the mean over one step's rows."),
    "accuracies": About(
        "Share of pairs ranked right",
        "Pairs whose chosen side has the larger reward; half of them by chance.",
    ),
    "margins": About(
        "Margin of implicit rewards",
        "Reward of the chosen side less that of the rejected, in the loss's own scale.",
    ),
    "normalized_margins": About(
        "Margin of a token, nats",
        "How much more likely training has made a token of the chosen side than one of the "
        "rejected side; the same measure for every loss.",
    ),
    "held_out_token_logps": About(
        "Held-out log-probability of a token, nats",
        "Fine lines: before training. Both sides may fall; where the chosen one falls far, other "
        "answers than either take its place.",
    ),
    "kl": About(
        "Distance from the first model, nats a token",
        "KL divergence, estimated from answers that the model gave before training.",
    ),
    "lengths_answer": About(
        "Length of answers, tokens",
        "What the model answers to held-out prompts. Fine line: before training.",
    ),
    "grad_norm": About("Gradient norm", "Before clipping; single peaks do no harm."),
    "learning_rate": About("Learning rate"),
    "rewards": About(
        "Implicit rewards", "How far each side has moved, in the loss's own scale.", first=False
    ),
    "cut_answers": About(
        "Share of answers that are cut", "Of those to held-out prompts.", first=False
    ),
    "token_logps": About("Log-probability of a token, nats", "Of each step's own rows.", False),
    "logps": About("Log-probability, nats", "Of whole responses of each step's own rows.", False),
    "held_out_logps": About(
        "Held-out log-probability, nats", "Of whole responses. Fine lines: before training.", False
    ),
    "normalized_accuracies": About(
        "Share of pairs ranked right by the token",
        "Pairs whose margin of a token is above 0.",
        first=False,
    ),
    "lengths": About("Length, tokens", "Of the responses trained on.", False),
}


@dataclass(frozen=True)
class Panel:
    """One chart."""

    group: str
    about: About
    lines: Sequence[Series]
    levels: Sequence[Level] = ()


def panels(rows: Sequence[Mapping[str, object]]) -> list[Panel]:
    """The charts of the rows of a metrics.jsonl and a watch.jsonl: every numeric column.

    `x/y` is read as `x_y`; `x_chosen` stands beside `x_rejected`; a column `held_out_x` (or
    `eval_x`) joins the chart of `x`, and log-probabilities of held-out rows have their own; a later
    row of the same step (a resumed run) replaces the earlier one.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    for number, row in enumerate(rows, 1):
        flat = _flat(row)
        step = flat.get("step", float(number))
        for name, value in flat.items():
            if (place := _place(name)) is not None:
                group, label = place
                found.setdefault(group, {}).setdefault(label, {})[step] = value
    order = [*(g for g in _ABOUT if g in found), *sorted(g for g in found if g not in _ABOUT)]
    return [_panel(group, found[group]) for group in order]


def _place(name: str) -> tuple[str, str] | None:
    """The chart of a column, and its line there; None of bookkeeping."""
    held = next((name[len(p) :] for p in _HELD_OUT if name.startswith(p)), None)
    own = held or name
    side = next((s for s in _SIDES if own == s or own.endswith(f"_{s}")), "")
    group = own.removesuffix(side).rstrip("_")
    if not group or group in _NO_CURVES or (held and group == "lengths"):
        return None
    if held and group in ("logps", "token_logps"):
        return f"held_out_{group}", _words(side)
    if own in _LOOKED:
        return own, "answers" if own != "kl" else "answers of the first model"
    return group, " ".join(filter(None, ["held-out" if held else "", _words(side)])) or "training"


def _words(side: str) -> str:
    return {"source_chosen": "source's", "target_chosen": "target's own"}.get(side, side)


def _panel(group: str, lines: Mapping[str, Mapping[float, float]]) -> Panel:
    about = _ABOUT.get(group) or About(group.replace("_", " ").capitalize(), first=False)
    drawn = [Series(label, sorted(points.items()), _kind(label)) for label, points in lines.items()]
    levels = [
        Level(line.points[0][1], line.kind)
        for line in drawn
        if group in _FROM_START and len(line.points) > 1
    ]
    return Panel(group, about, drawn, levels)


def _kind(label: str) -> str:
    """CSS classes of a line."""
    side = label.removeprefix("held-out").strip()
    colour = {"target's own": "chosen"}.get(side, side if side in _COLOURS else "main")
    return ("held " if label.startswith("held-out") else "") + colour


def _flat(row: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in row.items():
        name = prefix + key.replace("/", "_").replace("-", "_").lower()
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}_")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[name] = float(value)
    return {name: value for name, value in out.items() if math.isfinite(value)}
