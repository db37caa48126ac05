"""Which charts a metrics.jsonl gives, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fusechat.report.plots import Series

# Bookkeeping columns of metrics.jsonl, which are no curves.
_NO_CURVES = {
    "step",
    "epoch",
    "progress",
    "seconds",
    "time",
    "rows",
    "pairs",
    "examples",
    "samples",
}
_TITLES = {
    "loss": "Loss",
    "margins": "Margin of implicit rewards",
    "accuracies": "Share of pairs ranked right",
    "rewards": "Implicit rewards",
    "logps": "Log-probability, nats",
    "token_logps": "Log-probability of a token, nats",
    "lengths": "Length, tokens",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
_SIDES = ("chosen", "rejected", "response")
_HELD_OUT = ("eval_", "held_out_", "validation_")


def panels(rows: Sequence[Mapping[str, object]]) -> list[tuple[str, list[Series]]]:
    """The charts of one metrics.jsonl: every numeric column, chosen beside rejected.

    `x/y` is read as `x_y`; a column `eval_x` joins the chart of `x`; a later row of the same
    step (a resumed run) replaces the earlier one.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    for number, row in enumerate(rows, 1):
        flat = _flat(row)
        step = flat.get("step", float(number))
        for name, value in flat.items():
            held = next((name[len(p) :] for p in _HELD_OUT if name.startswith(p)), None)
            side = next((s for s in _SIDES if s in (held or name).split("_")), "")
            words = [word for word in (held or name).split("_") if word != side]
            group = "_".join(words) or name
            if group in _NO_CURVES or (side and not words):
                continue
            label = " ".join(filter(None, ["held-out" if held else "", side])) or "training"
            found.setdefault(group, {}).setdefault(label, {})[step] = value
    order = [*(g for g in _TITLES if g in found), *sorted(g for g in found if g not in _TITLES)]
    return [(_TITLES.get(g, g.replace("_", " ").capitalize()), _lines(found[g])) for g in order]


def _flat(row: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in row.items():
        name = prefix + key.replace("/", "_").replace("-", "_").lower()
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}_")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[name] = float(value)
    return {name: value for name, value in out.items() if math.isfinite(value)}


def _lines(group: Mapping[str, Mapping[float, float]]) -> list[Series]:
    kinds = {"chosen": "chosen", "rejected": "rejected"}
    return [
        Series(
            label,
            sorted(points.items()),
            ("held " if label.startswith("held-out") else "")
            + kinds.get(label.removeprefix("held-out").strip(), "main"),
        )
        for label, points in group.items()
    ]
