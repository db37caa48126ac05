"""Rows of sources that are trained by the recipe itself: what waits for them, and what is built.

A source with `model: train.sft` can answer only after the SFT training, which needs the SFT rows.
So a build is two units. `build` uses the sources that need no training: it makes the SFT rows, and
of the domains whose DPO strategy asks for a trained source it only reserves the prompts. The
trained source answers these prompts alone, and `build/on_policy` makes their DPO rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from fusechat.groups import Array
from fusechat.records import Record
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.groups import PromptTable
from fusechat.stages.split import DpoOnly, PairElseSft
from fusechat.tables import arrow_schema, read_columns, shards, write_tables

RESERVED = "reserved"
"""Table of a build: the prompts that wait for a trained source."""
RESERVED_ROWS = 20_000
TRAINED = ("train.sft", "train.dpo")
"""Models that this recipe trains."""


class Reserved(Record):
    """A prompt whose DPO row is made after the SFT training."""

    prompt_id: str
    origin: str
    domain: str


class BuildBefore(BaseModel):
    """What `build` does where other rows are made after the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: BuildSettings
    """Without the strategies that need trained sources."""
    reserve: tuple[str, ...]
    """Domains whose DPO prompts are reserved, in the order of the rules."""


class BuildAfter(BaseModel):
    """What `build/on_policy` does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: BuildSettings
    """Of the domains that have reserved prompts; each names all its sources."""


def waiting(rules: BuildSettings, trained: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Domain -> the trained sources that its DPO strategy asks for, of domains that ask for any."""
    found = {name: rule.asks_for("dpo", trained) for name, rule in rules.domains.items()}
    return {name: asked for name, asked in found.items() if asked}


def before(rules: BuildSettings, trained: Collection[str]) -> BuildSettings | BuildBefore:
    """The settings of `build`; the very rules where nothing waits for a trained source."""
    asked = waiting(rules, trained)
    if not asked:
        return rules
    kept = {
        domain: _without_pairs(rule) if domain in asked else rule
        for domain, rule in rules.domains.items()
    }
    return BuildBefore(rules=BuildSettings.model_construct(root=kept), reserve=tuple(asked))


def after(rules: BuildSettings, untrained: Sequence[str], trained: Collection[str]) -> BuildAfter:
    """The settings of `build/on_policy`."""
    found = {}
    for domain, asked in waiting(rules, trained).items():
        rule = rules.domains[domain]
        sources = rule.sources_of("dpo") or (*untrained, *asked)
        split = DpoOnly(rule="dpo_only")
        found[domain] = rule.model_copy(update={"split": split, "sft": None, "sources": sources})
    return BuildAfter(rules=BuildSettings.model_construct(root=found))


def _without_pairs(rule: DomainRule) -> DomainRule:
    """The rule without its DPO strategy, and without the sources that only that one sees."""
    return rule.model_copy(update={"dpo": None, "sources": rule.sources_of("sft")})


def rule_faults(rules: BuildSettings, trained: Collection[str]) -> Iterator[tuple[str, str]]:
    """Split rules that would have to know the pairs before the training, as (key below `build`,
    message with the mend)."""
    for domain in waiting(rules, trained):
        split = rules.domains[domain].split
        late = "its pairs are made after the SFT training, so they cannot decide the split"
        if isinstance(split, PairElseSft):
            yield (
                f"{domain}.split.rule",
                f"'pair_else_sft' does not go with a trained source: {late}. "
                "Use filter_then_share, split_then_filter or dpo_only.",
            )
        if getattr(split, "no_pair_to_sft", False):
            yield (
                f"{domain}.split.no_pair_to_sft",
                f"true does not go with a trained source: {late}. Remove it.",
            )


def write_reserved(
    folder: Path, prompts: PromptTable, placed: Array, reserve: Collection[str]
) -> int:
    """Write the prompts of these domains that were placed in DPO (`placed`: bool `[prompts]`);
    returns how many."""
    domains = [prompts.domains.index(name) for name in reserve if name in prompts.domains]
    at = np.flatnonzero(placed & np.isin(prompts.domain, domains))
    tables = (_rows(prompts, at[n : n + RESERVED_ROWS]) for n in range(0, len(at), RESERVED_ROWS))
    write_tables(folder / RESERVED, tables, arrow_schema(Reserved))
    return len(at)


def _rows(prompts: PromptTable, at: Array) -> pa.Table:
    return pa.table(
        {
            "prompt_id": prompts.ids.take(pa.array(at)),
            "origin": [prompts.origins[code] for code in prompts.origin[at]],
            "domain": [prompts.domains[code] for code in prompts.domain[at]],
        }
    )


def reserved_ids(build: Path) -> list[str]:
    """Ids of the prompts that a build reserved."""
    paths = shards(build / RESERVED)
    found = [read_columns(path, ["prompt_id"])["prompt_id"].to_pylist() for path in paths]
    return [name for ids in found for name in ids]


def reserved_among(build: Path, prompts: PromptTable, domains: Mapping[str, object]) -> Array:
    """Which prompts of their table are reserved and of these domains, bool `[prompts]`."""
    ids = pa.array(reserved_ids(build), pa.string())
    known = pc.is_in(prompts.ids, value_set=ids).to_numpy(zero_copy_only=False)
    codes = [code for code, name in enumerate(prompts.domains) if name in domains]
    return np.asarray(known & np.isin(prompts.domain, codes))
