"""Sections that cards share, as Markdown. All numbers are of the run's manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from fusechat.cards.lineage import SAMPLING, Lineage, Model, shown_name
from fusechat.licences import NO_ADVICE

PAPER = "2503.04222"
CITATION = """\
```bibtex
@article{yang2025fusechat3,
  title={FuseChat-3.0: Preference Optimization Meets Heterogeneous Model Fusion},
  author={Ziyi Yang and Fanqi Wan and Longguang Zhong and Canbin Huang and Guosheng Liang and
          Xiaojun Quan},
  journal={arXiv preprint arXiv:2503.04222},
  year={2025}
}
```"""
_ABSOLUTE = re.compile(r"(?<![\w.:/~])/(?:[^\s'\",{}\[\]]+/)+([^\s'\",{}\[\]/]+)")
_UNKNOWN = "not known here: look at its card"


def page(front: Mapping[str, Any], *sections: str) -> str:
    """A card: the front matter that the hub reads, then the sections that are not empty."""
    head = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=100)
    return "\n\n".join([f"---\n{head}---", *(part for part in sections if part)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value in one cell; what would end a cell or begin markup is escaped."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def sources(run: Lineage) -> str:
    """The sources: model, sampling parameters, responses, how they ended."""
    rows = []
    for source in run.sources():
        counts = run.counts(f"sample/{source.name}")
        ended = counts.get("finish", {})
        asked = ", ".join(
            f"{key} {_plain(source.settings[key])}" for key in SAMPLING if key in source.settings
        )
        ends = ", ".join(f"{count:,} {end}" for end, count in ended.items())
        how = str(source.settings.get("use", ""))
        rows.append((source.name, source.model, how, asked, counts.get("responses"), ends))
    head = ("source", "model", "by", "asked with", "responses", "ended by")
    return "## Sources\n\n" + table(head, rows) if rows else ""


def annotators(run: Lineage) -> str:
    """What judged the responses."""
    rows = []
    for name, entry in run.entries("annotators"):
        counts = run.counts(f"annotate/{name}")
        status = ", ".join(f"{n:,} {what}" for what, n in counts.get("status", {}).items())
        model = entry.get("model")
        shown = shown_name(str(model)) if model else None
        domains = ", ".join(entry.get("domains", ())) or "all"
        rows.append((name, entry.get("use", name), shown, domains, status))
    head = ("annotator", "kind", "model", "domains", "scores")
    return "## Annotators\n\n" + table(head, rows) if rows else ""


def rules(run: Lineage) -> str:
    """The build's rules and windows by domain."""
    windows = run.counts("build").get("window", {})
    out = []
    for domain, rule in run.section("build").items():
        if not isinstance(rule, Mapping):
            continue
        lines = [f"- {key}: `{_plain(value)}`" for key, value in rule.items()]
        if found := windows.get(domain):
            ends = [found.get(key) for key in ("min_margin", "max_margin")]
            lines.append(f"- window in the annotator's units: {_end(ends[0])} to {_end(ends[1])}")
        out.append(f"**{domain}**\n\n" + "\n".join(lines))
    return "\n\n".join(["## Rules", *out]) if out else ""


def funnel(run: Lineage) -> str:
    """Prompts read, kept, dropped and placed; nothing is left out without a reason."""
    prompts = run.counts("prompts")
    parts = []
    if prompts:
        rows = [
            (name, one.get("read"), one.get("kept"), _reasons(one.get("dropped", {})))
            for name, one in prompts.get("sets", {}).items()
        ]
        parts.append(table(("prompt set", "read", "kept", "dropped"), rows))
    build = run.counts("build")
    if build:
        built: list[Sequence[Any]] = [
            (name, one["prompts"], one["sft"], one["dpo"], _reasons(one.get("dropped", {})))
            for name, one in build.get("domains", {}).items()
        ]
        built.append(("all", build["prompts"], build["sft"], build["dpo"], f"{build['dropped']:,}"))
        head = ("domain", "prompts", "SFT rows", "pairs", "dropped prompts")
        parts.append(table(head, built))
    if found := contamination(run):
        parts.append(found)
    return "\n\n".join(["## Counts", *parts]) if parts else ""


def contamination(run: Lineage) -> str:
    """What the ledger removed; that none was looked for is said, too."""
    found = run.counts("decontaminate")
    if not found:
        return "The prompts and responses were not held against benchmarks in this run."
    names = ", ".join(found.get("benchmarks", {})) or "none"
    return (
        f"Held against benchmarks ({names}): {found['looked_at']:,} texts looked at, "
        f"{found['removed_prompts']:,} prompts and {found['removed_responses']:,} responses "
        "removed, each listed with what it matched in the run's ledger."
    )


def licences(run: Lineage, models: Sequence[Model]) -> str:
    """The licence matrix, with what each asks of those who train on outputs."""
    rows = []
    for one in models:
        known = one.licence
        duties = "; ".join(known.duties) if known else ""
        name = known.name if known else one.tag or _UNKNOWN
        outputs = known.outputs if known else "not known"
        rows.append((one.name, one.model, name, outputs, known.says if known else "", duties))
    head = ("", "model", "licence", "training on outputs", "what it says", "duties")
    sets = {str(e["licence"]) for _, e in run.entries("prompts") if e.get("licence")}
    more = f"\n\nPrompt sets: {', '.join(sorted(sets))}." if sets else ""
    built = f"\n\n{said}" if (said := built_with(models)) else ""
    return f"## Licences\n\n{table(head, rows)}{more}{built}\n\n{NO_ADVICE}" if rows else ""


def built_with(models: Sequence[Model]) -> str:
    """The notices that licences ask for, such as "Built with Llama"."""
    duties = [duty for one in models if one.licence for duty in one.licence.duties]
    shown = [duty.split('"')[1] for duty in duties if duty.startswith('show "')]
    return " ".join(f"**{notice}**." for notice in dict.fromkeys(shown))


def licence_fields(models: Sequence[Model]) -> dict[str, str]:
    """`license` for the front matter: one tag where all models allow it, else `other`."""
    known = [one.licence for one in models]
    tags = {one.tag for one in known if one is not None}
    hub = {"apache-2.0", "mit", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma",
           "cc-by-nc-4.0"}  # fmt: skip
    if None not in known and len(tags) == 1 and tags <= hub:
        return {"license": str(next(iter(tags)))}
    return {"license": "other", "license_name": "see-the-licence-table"}


def reproduce(run: Lineage) -> str:
    """The recipe as run, and under which versions."""
    libraries = run.environment.get("libraries", {})
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    python = run.environment.get("python")
    made = f"Made by fusechat, run `{run.run}`"
    where = f"{made}; Python {python}, {versions}." if python else f"{made}."
    text = shortened(run.text)
    fence = "`" * 4
    recipe = f"\n\nThe recipe, as `fusechat run RECIPE` read it:\n\n{fence}yaml\n{text}\n{fence}"
    return f"## How to make it again\n\n{where}{recipe if text else ''}"


def shortened(text: str) -> str:
    """A recipe without what tells of one machine: of an absolute path its last part stays."""
    return _ABSOLUTE.sub(r".../\1", text.rstrip())


def citation() -> str:
    """The paper."""
    return f"## Citation\n\n{CITATION}"


def _reasons(found: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} {reason}" for reason, count in found.items()) or "0"


def _end(value: Any) -> str:
    return "no bound" if value is None else f"{value:.6g}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
