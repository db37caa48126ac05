"""The mini recipe cut down to seconds: every stage, few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def tiny_recipe(folder: Path, **sections: Any) -> Path:
    """Write a recipe with all stages of `recipes/mini.yaml` and few rows; returns its path."""
    tree = yaml.safe_load((ROOT / "recipes" / "mini.yaml").read_text(encoding="utf-8"))
    tree["name"] = "tiny-world"
    for entry in tree["prompts"].values():
        entry["take"] = 10
    for entry in [tree["target"], *tree["sources"].values(), *tree["annotators"].values()]:
        if "model" in entry:
            entry["model"] = str((ROOT / "recipes" / entry["model"]).resolve())
    for entry in tree["sources"].values():
        entry["samples"] = {domain: min(count, 2) for domain, count in entry["samples"].items()}
    for name in ("sft", "dpo"):
        tree["train"][name] |= {"global_batch_size": 4, "save_steps": 2}
    tree["train"]["sft"]["num_train_epochs"] = 1
    tasks = [
        task for task in tree["evaluate"]["tasks"] if task["use"] in ("mini_math", "mini_chat")
    ]
    tree["evaluate"] |= {"tasks": tasks, "models": ["target", "train.sft", "train.dpo", "llama"]}
    for task in tasks:
        task["take"] = 6
    path = folder / "tiny-world.yaml"
    path.write_text(yaml.safe_dump(tree | sections, sort_keys=False), encoding="utf-8")
    return path
