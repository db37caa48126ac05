"""Several ranks from the command line: one `fusechat run`, and torchrun with `fusechat worker`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "training"))

from training_tiny import WORDS, save_base

from fusechat.files import read_json
from running import results

RECIPE = """
name: ranks
target: {model: base}
prompts: {words: {use: files, path: prompts.jsonl, domain: chat}}
sources: {one: {use: given, path: one.jsonl}, two: {use: echo, samples: 1}}
annotators: {length: {scale: 10.0}}
build:
  chat:
    split: {rule: filter_then_share, sft_share: 0.5}
    sft: {use: best_of, by: length}
    dpo: {use: same_source_margin, by: length, min_margin: 0.01, max_margin: 100}
train:
  sft: {global_batch_size: 4, num_train_epochs: 1}
  dpo: {global_batch_size: 4, save_steps: 1, held_out: 0, select: {by: last}}
"""
CLUSTER = "default: {device: cpu}\nunits: {train: {device: cpu, ranks: 2, sharding: fsdp2}}\n"


def _fusechat(folder: Path, *words: str, launcher: tuple[str, ...] = ()) -> str:
    """What the command printed; it must have gone well."""
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "fusechat", *words, "--cluster", "cluster.yaml"],
        cwd=folder, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_trains_on_two_ranks_and_closes_what_torchrun_trained(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    prompts = [f"{WORDS[n]} {WORDS[n + 1]}" for n in range(24)]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    )
    stored = [
        {"prompt": prompt, "response": text}
        for n, prompt in enumerate(prompts)
        for text in (f"{WORDS[n]} w1 w2 w3 w4 w5", WORDS[n + 2])
    ]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stored))
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    _fusechat(tmp_path, "run", "r.yaml", "--only", "train/sft")
    (unit,) = tmp_path.glob("workspace/**/sft-*/manifest.json")
    assert (unit.parent / "rank-1.log").exists()
    steps = read_json(unit)["counts"]["steps"]
    assert steps >= 2
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    told = _fusechat(tmp_path, "worker", "r.yaml", "--unit", "train/dpo", launcher=torchrun)
    assert told.count("Close it with: fusechat run") == 1
    before = results(tmp_path / "workspace")
    assert "done" in _fusechat(tmp_path, "run", "r.yaml")
    after = results(tmp_path / "workspace")
    assert {name: after[name] for name in before} == before
    (closed,) = tmp_path.glob("workspace/**/dpo-*/finished.json")
    assert (closed.parent / "manifest.json").exists()
