"""A recipe of seconds whose target is a source itself: stored sources, a tiny random target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tiny_models import tiny_model

PROMPTS = 20
TRAIN = {"global_batch_size": 4, "max_length": 128, "warmup_steps": 0}
CHAT = {
    "split": {"rule": "filter_then_share", "sft_share": 0.4},
    "sft": {"use": "best_of", "by": "length"},
    "dpo": {"use": "source_over_target", "by": "length", "target": "own"},
}


def on_policy_recipe(folder: Path, model: bool = True, **sections: Any) -> Path:
    """Write the recipe, its prompts, responses and (where asked) target; returns its path.

    After SFT the target says words of the sources, of other lengths, so that an annotator that
    counts characters tells its samples apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if model:
        tiny_model(folder / "model")
    prompts = [f"What is {n} and {n}?" for n in range(PROMPTS)]
    rows = {
        "prompts": [{"prompt": prompt} for prompt in prompts],
        "one": [{"prompt": p, "response": "7" * (1 + n % 3)} for n, p in enumerate(prompts)],
        "two": [{"prompt": p, "response": "so " * (1 + n % 4)} for n, p in enumerate(prompts)],
    }
    for name, found in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = folder / "on-policy.yaml"
    tree = {**tree_of(), **sections}
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def tree_of() -> dict[str, Any]:
    """The recipe as a tree."""
    own = {"use": "hf", "model": "train.sft", "samples": 3, "max_new_tokens": 12}
    return {
        "name": "on-policy",
        "seed": 3,
        "target": {"model": "./model"},
        "prompts": {"set": {"use": "files", "path": "prompts.jsonl", "domain": "chat"}},
        "sources": {
            "one": {"use": "given", "path": "one.jsonl"},
            "own": {**own, "dtype": "float32", "temperature": 1.0, "top_p": 1.0},
            "two": {"use": "given", "path": "two.jsonl"},
        },
        "annotators": {"length": {}},
        "build": {"chat": CHAT},
        "train": {
            "sft": {**TRAIN, "learning_rate": 1e-2, "num_train_epochs": 5, "save_steps": 4},
            "dpo": {**TRAIN, "loss": {"use": "wrpo"}, "learning_rate": 1e-4, "save_steps": 1},
        },
    }
