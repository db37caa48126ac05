"""The card of a trained model: its lineage, its data in numbers, its results, its licences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusechat.cards import text
from fusechat.cards.lineage import SELECT, Lineage, Model, lineage
from fusechat.cards.text import cell, table
from fusechat.files import write_atomic
from fusechat.metrics.text import percent, title

TRAINED = {"train/sft": "train.sft", "train/dpo": "train.dpo"}
CARD = "README.md"


def write_cards(run_folder: Path, workspace: Path) -> list[Path]:
    """Write a card beside every trained model of a run (`train/sft/README.md`, and that of the
    chosen state as `select/dpo/README.md`).

    It stands beside `model/`, not in it: the folder's content is what later units are made from.
    """
    run = lineage(run_folder, workspace)
    out = []
    for unit in TRAINED:
        if place := run.published(unit):
            path = run.folders[place] / CARD
            write_atomic(path, model_card(run, unit).encode("utf-8", "replace"))
            out.append(path)
    return out


def model_card(run: Lineage, unit: str) -> str:
    """The card of what `train/sft` or `train/dpo` made, as Markdown with the hub's front matter."""
    target, sources = run.target(), run.sources()
    models = [*([target] if target else []), *sources]
    trained = [one for one in TRAINED if one in run.manifests and (one, unit) != ("train/dpo",
               "train/sft")]  # fmt: skip
    return text.page(
        _front(run, unit, target, models),
        f"# {run.name}: {'fused' if unit == 'train/dpo' else 'SFT'} model",
        _intro(unit, target, sources),
        text.built_with(models),
        _results(run),
        _training(run, trained),
        text.funnel(run),
        text.sources(run),
        text.annotators(run),
        text.rules(run),
        _use(target),
        text.licences(run, models),
        text.reproduce(run),
        text.citation(),
    )


def _front(run: Lineage, unit: str, target: Model | None, models: list[Model]) -> dict[str, Any]:
    front: dict[str, Any] = {
        **text.licence_fields(models),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["fusechat", "model-fusion", *(_stages(run, unit)), f"arxiv:{text.PAPER}"],
    }
    if target is not None and target.hub_name:
        front |= {"base_model": [target.hub_name], "base_model_relation": "finetune"}
    if results := _index(run.metrics(), TRAINED[unit]):
        front["model-index"] = [{"name": run.name, "results": results}]
    return front


def _stages(run: Lineage, unit: str) -> list[str]:
    done = [one.split("/")[1] for one in TRAINED if one in run.manifests]
    return [one for one in done if unit == "train/dpo" or one == "sft"]


def _index(metrics: Mapping[str, Any] | None, model: str) -> list[dict[str, Any]]:
    """`model-index` results: the strict value of every task that it was asked, in percent."""
    out = []
    for task, found in (metrics or {"tasks": {}})["tasks"].items():
        value = found["models"].get(model, {}).get("accuracy_strict")
        if value is None:
            continue
        kind = found.get("metric", "accuracy")
        out.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": task, "type": task},
                "metrics": [
                    {"type": kind, "value": round(100 * value, 2), "name": f"{kind}, strict (%)"}
                ],
            }
        )
    return out


def _intro(unit: str, target: Model | None, sources: list[Model]) -> str:
    base = f"`{target.model}`" if target else "the base"
    names = ", ".join(f"`{one.model}`" for one in sources)
    how = {
        "train/sft": "fine-tuned on the best response of several source models to each prompt",
        "train/dpo": "trained on the best responses of several source models, then by preferences "
        "between responses of one and the same source",
    }[unit]
    return (
        f"{base}, {how} (implicit model fusion, FuseChat-3.0, "
        f"[arXiv {text.PAPER}](https://arxiv.org/abs/{text.PAPER})). Sources: {names}. It has the "
        "architecture, the tokenizer and the chat template of its base."
    )


def _results(run: Lineage) -> str:
    metrics, benchmarks = run.metrics(), _benchmarks(run.benchmarks())
    if metrics is None:
        nothing = "This model was not evaluated in this run."
        return f"## Results\n\n{benchmarks or nothing}"
    tasks = metrics["tasks"]
    order = dict.fromkeys(name for found in tasks.values() for name in found["models"])
    models = [name for name in ("target", *TRAINED.values()) if name in order]
    models += [name for name in order if name not in models]
    rows: list[list[str]] = []
    for task, found in tasks.items():
        name = task if found.get("metric", "accuracy") == "accuracy" else f"{task} (win rate)"
        rows.append([name, *(_value(found["models"].get(model)) for model in models)])
    averages = metrics["average"]["models"]
    rows.append(["average", *(_value(averages.get(model)) for model in models)])
    note = (
        "Percent, with 95% intervals; a response that is cut or empty counts as not solved. "
        f"{cell(metrics['method'])}"
    )
    head = ["task", *(title(model) for model in models)]
    return "\n\n".join(filter(None, ["## Results", table(head, rows), note, benchmarks]))


def _benchmarks(found: Mapping[str, Any] | None) -> str:
    """The published benchmarks, whole or skipped; empty where none was asked for."""
    if found is None:
        return ""
    models = [one["name"] for one in found["models"]]
    rows = [
        [row["title"], *(_score(row, model) for model in models), _standing(row)]
        for row in found["rows"]
        if row["status"] != "skipped"
    ]
    skipped = [row["title"] for row in found["rows"] if row["status"] == "skipped"]
    left = f"Not evaluated: {', '.join(skipped)}. " if skipped else ""
    head = ["benchmark", *(title(model) for model in models), "status"]
    return f"{table(head, rows)}\n\n{left}{cell(found['method'])}"


def _score(row: Mapping[str, Any], model: str) -> str:
    value = (row["models"].get(model) or {}).get("score")
    return "–" if value is None else format(value, ".2f" if row["scale"] == 10 else ".1f")


def _standing(row: Mapping[str, Any]) -> str:
    return str(row["status"]) + ("" if row["comparable"] else ", not comparable with the paper")


def _value(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry.get("accuracy_strict") is None:
        return "–"
    value = percent(entry["accuracy_strict"])
    low, high = entry.get("strict_low"), entry.get("strict_high")
    return value if low is None else f"{value} [{percent(low)}, {percent(high)}]"


def _training(run: Lineage, units: list[str]) -> str:
    parts = []
    for unit in units:
        said = run.section("train").get(unit.split("/")[1])
        settings = said if isinstance(said, Mapping) else {}
        counts, libraries = run.counts(unit), run.manifests[unit].get("libraries", {})
        lines = [
            f"- {name}: `{value if isinstance(value, str) else json.dumps(value)}`"
            for name, value in settings.items()
        ]
        rows = f"{counts.get('rows', 0):,} rows, {counts.get('dropped', 0):,} left out (length)"
        lines.append(f"- {rows}, {counts.get('steps', 0):,} steps, {counts.get('epochs')} epochs")
        if chosen := run.counts(SELECT) if unit == "train/dpo" else None:
            lines.append(f"- the state after step {chosen['step']}: {cell(chosen['reason'])}")
        used = [f"{n} {libraries[n]}" for n in ("torch", "transformers") if n in libraries]
        lines.append(f"- {', '.join(used)}; settings not named have fusechat's defaults")
        parts.append(f"**{unit}**\n\n" + "\n".join(lines))
    return "\n\n".join(["## Training", *parts])


def _use(target: Model | None) -> str:
    base = f" what `{target.model}` must not be used for, too," if target else ""
    return (
        "## Intended use\n\nA chat model for research and for building on, within the licences "
        "below. It has not been tested for safety beyond the table above: whatever its base and "
        f"its sources get wrong it may get wrong,{base} and its answers need checking before "
        "anyone relies on them."
    )
