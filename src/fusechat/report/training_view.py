"""The section on training: warnings first, then the charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fusechat.report import plots, training_panels
from fusechat.report.training_panels import Panel
from fusechat.report.training_runs import TrainingRun

_TITLES = {
    "chosen_falls": "Preferred responses become less likely",
    "length_runs": "Answers change their length",
    "answers_do_not_end": "Answers no longer end",
    "kl_is_large": "The model has moved far from where it began",
    "worse_than_a_coin": "Held-out pairs are ranked worse than by a coin",
    "learnt_by_heart": "Training pairs are learnt by heart",
    "margins_explode": "Margins go beyond what can be learnt",
    "gradient_spikes": "Gradients spike",
}


def runs(found: Iterable[TrainingRun]) -> list[dict[str, Any]]:
    """Each run as the template shows it."""
    return [_run(run) for run in found]


def _run(run: TrainingRun) -> dict[str, Any]:
    charts = training_panels.panels([*run.lines, *run.looks])
    return {
        "unit": run.unit,
        "panels": [_drawn(panel) for panel in charts if panel.about.first],
        "folded": [_drawn(panel) for panel in charts if not panel.about.first],
        "warnings": [_warning(one) for one in run.warnings],
        "watched": _watched(run),
    }


def _drawn(panel: Panel) -> dict[str, Any]:
    title = panel.about.title
    held = any("held" in line.kind.split() for line in panel.lines)
    return {
        "title": title,
        "what": panel.about.what,
        "svg": plots.curves(title, panel.lines, panel.levels),
        "keys": panel.lines if len(panel.lines) > 1 or held else [],
    }


def _warning(said: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(said["kind"])
    first, last = said["step"], said["last"]
    return {
        "title": _TITLES.get(kind, kind.replace("_", " ").capitalize()),
        "when": f"step {first:,}" if first == last else f"steps {first:,} to {last:,}",
        "text": said["text"],
        "advice": list(said["advice"]),
    }


def _watched(run: TrainingRun) -> str:
    """What was looked at, in a sentence; empty where nothing was."""
    if not run.looks:
        return ""
    parts = list(_looked_at(run.looks[-1]))
    times = f"{len(run.looks)} times" if len(run.looks) != 1 else "once"
    end = "" if run.warnings else ", and nothing was seen to drift"
    return f"Looked at {times}: {' and '.join(parts)}{end}."


def _looked_at(look: Mapping[str, Any]) -> Iterator[str]:
    rows, answers = look.get("held_out_rows"), look.get("answers")
    if rows:
        yield f"{rows:,} held-out rows"
    if answers:
        yield f"{answers:,} answers to held-out prompts"
