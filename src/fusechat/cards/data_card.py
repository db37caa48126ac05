"""The card of an exported data set: columns, counts, sources, licences, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.cards import text
from fusechat.cards.lineage import Lineage
from fusechat.cards.text import table

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"),
          (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"),
          (1_000_000_000, "100M<n<1B"))  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One table of the data set: a configuration on the hub."""

    name: str
    files: str
    """A path or pattern inside the folder."""
    rows: int
    what: str
    columns: Mapping[str, str]
    """Column -> what it holds."""


def data_card(run: Lineage, kind: str, parts: Sequence[Part], how: str = "") -> str:
    """The card of a data set, as Markdown with the hub's front matter.

    `kind`: what it is, such as `SFT and DPO sets for TRL`; `how`: how to load or train on it.
    """
    sources = run.sources()
    rows = sum(part.rows for part in parts)
    size = next((name for limit, name in _SIZES if rows < limit), "n>1T")
    front: dict[str, Any] = {
        "pretty_name": f"{run.name}: {kind}",
        **text.licence_fields(sources),
        "task_categories": ["text-generation"],
        "tags": ["fusechat", "synthetic", "model-fusion", f"arxiv:{text.PAPER}"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": part.name,
                "data_files": [{"split": "train", "path": part.files}],
                **({"default": True} if part is parts[0] else {}),
            }
            for part in parts
            if part.rows
        ],
    }
    return text.page(
        front,
        f"# {run.name}: {kind}",
        "Responses of several source models to the same prompts, judged, and the training sets "
        f"chosen from them as in FuseChat-3.0 ([arXiv {text.PAPER}]"
        f"(https://arxiv.org/abs/{text.PAPER})).",
        text.built_with(sources),
        *(_part(part) for part in parts),
        how,
        text.funnel(run),
        text.sources(run),
        text.annotators(run),
        text.rules(run),
        text.licences(run, sources),
        text.reproduce(run),
        text.citation(),
    )


def _part(part: Part) -> str:
    columns = table(("column", "what it holds"), part.columns.items())
    return f"## `{part.name}`\n\n{part.what} {part.rows:,} rows.\n\n{columns}"
