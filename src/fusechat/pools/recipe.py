"""The recipe that an import writes beside a pool: whole for `fusechat check`, a start for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from fusechat.pools.importing import Imported

_HEAD = """\
# Written by `fusechat import`. It reads the stored responses and builds SFT{pairs} rows from them;
# add a target, train and evaluate sections to fuse them (docs/pools.md, recipes/mini.yaml).
"""
_NO_PAIRS = """\
# No source has two scored responses to one prompt, so there is no pair of one source: SFT only.
# `dpo: {use: cross_source_margin, ...}` would pair different sources.
"""


def starting_recipe(found: Imported) -> str:
    """The recipe of an imported pool, as YAML."""
    pairs = bool(found.scores) and found.most_samples > 1
    tree: dict[str, Any] = {
        "name": "pool",
        "seed": 42,
        "prompts": {"pool": {"use": "files", "path": "prompts.jsonl", "domain": "chat"}},
        "sources": {
            source: {
                "use": "given",
                "path": f"responses/{source}.jsonl",
                "finish": "finish",
                "model": model,
            }
            for source, model in found.models.items()
        },
    }
    judge = None
    if found.scores:
        judge = "stored"
        tree["annotators"] = {judge: {"use": "stored_score", "path": "scores.jsonl"}}
    rule: dict[str, Any] = {
        "split": {"rule": "filter_then_share" if pairs else "sft_only"},
        "sft": {"use": "best_of", "by": judge},
    }
    if pairs:  # scores of any scale: the smallest tenth of the gaps is left out
        window = {"window": "quantiles", "min_margin": 0.1, "max_margin": 1.0}
        rule["dpo"] = {"use": "same_source_margin", "by": judge, **window}
    tree["build"] = {"chat": rule}
    head = _HEAD.format(pairs=" and DPO" if pairs else "") + ("" if pairs else _NO_PAIRS)
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)
