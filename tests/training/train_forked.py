"""Runs training units in forked processes, some of which a fault point kills.

Usage: train_forked.py FOLDER STAGE RUNS, with RUNS as JSON: a list of [unit folder, environment].
Each run is a process group of its own. Prints the exit statuses as JSON. One process imports
torch and all runs are forked from it, which is what makes many kills cheap.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from training_tiny import context_of, make_model

from fusechat.chat import load_tokenizer
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.stages.train import train_dpo, train_sft
from fusechat.stages.train_settings import DpoSettings, SftSettings
from fusechat.training.models import load_model, make_optimizer

STEPS = {"global_batch_size": 6, "num_train_epochs": 2, "save_steps": 2, "learning_rate": 3e-3}
SETTINGS = {"sft": SftSettings(**STEPS), "dpo": DpoSettings(**STEPS, loss=LengthNormalizedDpo())}
STAGES = {"sft": train_sft, "dpo": train_dpo}


def import_all(base: Path) -> None:
    """What a run would import, imported once before the forks."""
    load_model(base, torch.device("cpu"))
    make_optimizer(make_model("qwen2"), SETTINGS["sft"])
    load_tokenizer(base)


def run(folder: Path, stage: str, unit: str) -> None:
    context = context_of(
        folder / unit, folder / "base", folder / "build", SETTINGS[stage], micro_batch_size=4
    )
    STAGES[stage](context)


def forked(folder: Path, stage: str, unit: str, environment: dict[str, str]) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.environ.update(environment)
        status = 1
        try:
            run(folder, stage, unit)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, name, runs = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    import_all(place / "base")
    print(json.dumps([forked(place, name, unit, environment) for unit, environment in runs]))
