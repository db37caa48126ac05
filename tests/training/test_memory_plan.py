"""The plan of memory for a job: what the settings say, else what fits the device."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_tiny import random_examples

from fusechat.losses.dpo import Dpo
from fusechat.parts import Where
from fusechat.progress import Progress
from fusechat.stages.train_settings import DpoSettings, LoraSettings
from fusechat.training import memory_plan
from fusechat.training.memory import RESERVE, SLACK, How, needs
from fusechat.training.memory_plan import Planned, longest_row, plan_memory, read_shape
from fusechat.training.ranks import Ranks

LLAMA_1B = {
    "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048, "vocab_size": 128256,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 8192, "tie_word_embeddings": True,
}  # fmt: skip
CPU, GPU = Ranks(torch.device("cpu")), Ranks(torch.device("cuda"))


class _Notes(Progress):
    def __init__(self) -> None:
        super().__init__("unit")
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _job(folder: Path, where: dict[str, Any] | None = None, **settings: Any) -> Any:
    (folder / "config.json").write_text(json.dumps(LLAMA_1B))
    return SimpleNamespace(
        base=folder, examples=random_examples(5, 2), where=Where(**where or {}),
        settings=DpoSettings(loss=Dpo(), dtype="bfloat16", **settings), progress=_Notes(),
    )  # fmt: skip


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(count: float) -> None:
        monkeypatch.setattr(memory_plan, "device_memory", lambda device: count)

    return set_to


def test_a_gpu_with_room_trains_at_full_speed(tmp_path: Path, room: Any) -> None:
    room(150e9)
    planned = plan_memory(_job(tmp_path), GPU)
    assert (planned.checkpointing, planned.tokens) == (False, 16384)
    engine = SimpleNamespace(budget=100)
    planned.lead(engine)
    assert engine.budget == 16384


def test_a_small_gpu_checkpoints_unless_that_is_forbidden(tmp_path: Path, room: Any) -> None:
    room(30e9)
    planned = plan_memory(_job(tmp_path), GPU)
    assert planned.checkpointing
    assert planned.choice is not None
    assert planned.choice.fits
    forbidden = plan_memory(_job(tmp_path, gradient_checkpointing=False), GPU)
    assert not forbidden.checkpointing
    assert forbidden.tokens is not None
    assert planned.tokens is not None
    assert forbidden.tokens < planned.tokens
    assert plan_memory(_job(tmp_path, gradient_checkpointing=True), GPU).checkpointing


def test_what_the_cluster_file_says_of_micro_batches_is_taken(tmp_path: Path, room: Any) -> None:
    room(150e9)
    planned = plan_memory(_job(tmp_path, {"micro_batch_tokens": 777}), GPU)
    assert planned.tokens == 777


def test_on_a_cpu_micro_batches_are_the_same_whatever_memory_there_is(
    tmp_path: Path, room: Any
) -> None:
    room(500e9)
    much = plan_memory(_job(tmp_path), CPU)
    room(27e9)
    little = plan_memory(_job(tmp_path), CPU)
    assert (much.tokens, little.tokens) == (None, None)
    assert (much.checkpointing, little.checkpointing) == (False, True)
    engine = SimpleNamespace(budget=100)
    little.lead(engine)
    assert engine.budget == 100


def test_a_run_that_may_not_fit_says_so_and_what_would(tmp_path: Path, room: Any) -> None:
    room(10e9)
    job = _job(tmp_path)
    planned = plan_memory(job, GPU)
    planned.tell(job, GPU)
    assert "it may not fit. What would: " in job.progress.notes[0]
    assert "fsdp2" in job.progress.notes[0]
    lora = plan_memory(_job(tmp_path, lora=LoraSettings(r=8)), GPU)
    assert lora.choice is not None
    assert lora.choice.fits


def test_ranks_share_weights_only_where_sharding_is_asked_for(tmp_path: Path, room: Any) -> None:
    room(150e9)
    ranks = Ranks(torch.device("cuda"), rank=1, world=4)
    for sharding, shards in (("none", 1), ("fsdp2", 4)):
        planned = plan_memory(_job(tmp_path, {"sharding": sharding}), ranks)
        assert planned.choice is not None
        assert planned.choice.how.shards == shards


def test_a_cpu_run_that_fits_is_told_nothing(tmp_path: Path, room: Any) -> None:
    room(500e9)
    job = _job(tmp_path)
    plan_memory(job, CPU).tell(job, CPU)
    assert job.progress.notes == []
    plan_memory(job, GPU).tell(job, GPU)
    assert "micro-batches of 16,384 tokens" in job.progress.notes[0]


def test_a_model_of_unknown_sizes_is_trained_as_the_settings_say(tmp_path: Path) -> None:
    job = _job(tmp_path, {"micro_batch_tokens": 5}, gradient_checkpointing=True)
    for text in ("{}", "[]", "no json"):
        (tmp_path / "config.json").write_text(text)
        assert read_shape(tmp_path) is None
        assert plan_memory(job, GPU) == Planned(True, 5)
    (tmp_path / "config.json").unlink()
    planned = plan_memory(_job_without_config(job), GPU)
    assert "not planned" in planned.line()


def _job_without_config(job: Any) -> Any:
    (job.base / "config.json").unlink(missing_ok=True)
    return job


def test_the_longest_row_counts_all_its_texts() -> None:
    rows = random_examples(6, 2)
    assert longest_row(rows) == max(sum(len(t.ids) for t in row.texts) for row in rows)


def test_the_reserve_is_part_of_the_plan() -> None:
    shape = memory_plan.shape_of(LLAMA_1B)
    assert shape is not None
    found = needs(shape, How(), 4096)
    assert found.total == found.states + (1 + SLACK) * (found.kept + found.work) + RESERVE
