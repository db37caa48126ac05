"""`engine: trl` against our own loop: the same rows, order and hyperparameters, step by step."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers
from training_tiny import make_tokenizer, random_examples, save_base

from fusechat.errors import TrainingError
from fusechat.files import read_json, read_jsonl
from fusechat.losses.chosen_likelihood import ChosenLikelihood
from fusechat.losses.dpo import Dpo
from fusechat.losses.ipo import Ipo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.stages.train_settings import DpoSettings, LoraSettings, SftSettings
from fusechat.training.examples import Example, Text
from fusechat.training.loop import Job, train
from fusechat.training.trl_engine import (
    checkpoint_folders,
    micro_batch_rows,
    step_of,
    train_with_trl,
    trl_faults,
)

pytestmark = pytest.mark.filterwarnings("ignore")


def _rows(count: int, sides: int) -> list[Example]:
    """Random rows whose responses follow one prompt."""
    rows = []
    for example in random_examples(count, sides, seed=3):
        first = example.texts[0]
        prompt = first.ids[: first.start]
        texts = [
            Text(np.concatenate([prompt, t.ids[t.start :]]), len(prompt)) for t in example.texts
        ]
        rows.append(Example(example.prompt_id, tuple(texts), 1.0))
    return rows


def _job(folder: Path, settings: Any, rows: list[Example], **where: Any) -> Job:
    base = save_base(folder.parent / "base") if not (folder.parent / "base").exists() else None
    return Job(
        folder=folder, base=base or folder.parent / "base", tokenizer=make_tokenizer(),
        examples=rows, settings=settings, identity={}, seed=5,
        where=Where(device="cpu", micro_batch_size=2, **where), progress=quiet(),
    )  # fmt: skip


SHORT: dict[str, Any] = {
    "learning_rate": 5e-3, "num_train_epochs": 2, "global_batch_size": 4, "warmup_steps": 0.3,
    "weight_decay": 0.1, "max_grad_norm": 0.5, "save_steps": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "sides"),
    [
        (SftSettings(loss=Sft(), **SHORT), 1),
        (DpoSettings(loss=Dpo(beta=0.2), **SHORT), 2),
        (DpoSettings(loss=LengthNormalizedDpo(beta=5), **SHORT), 2),
        (DpoSettings(loss=Ipo(beta=0.5), **SHORT), 2),
    ],
    ids=["sft", "dpo", "length_normalized_dpo", "ipo"],
)
def test_trl_follows_our_loss_curve_over_two_epochs(
    settings: Any, sides: int, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    rows = _rows(10, sides)
    ours = train(_job(tmp_path / "ours", settings, rows))
    theirs = train_with_trl(_job(tmp_path / "theirs", settings, rows))
    assert theirs["steps"] == ours["steps"] == 6
    own, other = (
        list(read_jsonl(tmp_path / name / "metrics.jsonl")) for name in ("ours", "theirs")
    )
    assert own[0]["loss"] != pytest.approx(own[-1]["loss"], rel=1e-2)
    for one, two in zip(own, other, strict=True):
        for name in ("step", "epoch", "rows", "learning_rate"):
            assert two[name] == pytest.approx(one[name], abs=1e-12)
        for name in [name for name in one if name in two]:
            if name == "accuracies" and one["step"] < 3:
                continue  # the first step has rate 0, and a margin of 0 is right or wrong by a bit
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=2e-5), name
    assert {"loss", "grad_norm"} <= other[0].keys()


class _Killed(Exception):
    pass


class _KillsAt:
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, []

    def begin(self, engine: Any, ranks: Any, step: int) -> None:
        self.seen.append(("begin", step))

    def after(self, line: dict[str, Any]) -> None:
        self.seen.append(("after", line["step"]))
        if line["step"] == self.step:
            raise _Killed

    def saved(self, engine: Any, step: int) -> None:
        self.seen.append(("saved", step))
        assert engine.logps([random_examples(1, 2)[0]]).shape == (1, 2)

    def end(self) -> None:
        self.seen.append(("end", 0))


def test_a_killed_trl_run_goes_on_from_its_newest_whole_checkpoint_with_the_same_curve(
    tmp_path: Path,
) -> None:
    pytest.importorskip("trl")
    settings, rows = DpoSettings(loss=Dpo(beta=0.2), **SHORT), _rows(10, 2)
    train_with_trl(_job(tmp_path / "whole", settings, rows))
    job = _job(tmp_path / "killed", settings, rows)
    with pytest.raises(_Killed):
        train_with_trl(replace(job, observers=[_KillsAt(5)]))
    torn = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 4')
    looking = _KillsAt(0)
    train_with_trl(replace(job, observers=[looking]))
    assert looking.seen[:3] == [("begin", 3), ("after", 4), ("after", 5)]
    assert looking.seen[-3:] == [("after", 6), ("saved", 6), ("end", 0)]
    kept = {path.name for path in checkpoint_folders(tmp_path / "killed" / "checkpoints")}
    assert kept == {"3", "6"}
    nothing_to_do = _KillsAt(0)
    train_with_trl(replace(job, observers=[nothing_to_do]))
    assert nothing_to_do.seen == []
    assert not torn.exists()
    one, two = (list(read_jsonl(tmp_path / name / "metrics.jsonl")) for name in ("whole", "killed"))
    assert one == two
    assert (tmp_path / "whole" / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "killed" / "model" / "model.safetensors"
    ).read_bytes()
    own = read_json(tmp_path / "killed" / "model" / "config.json")
    base = read_json(tmp_path / "base" / "config.json")
    assert own["pad_token_id"] == base["pad_token_id"]


def test_no_checkpoint_is_kept_but_those_that_save_steps_asks_for(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    settings = SftSettings(**SHORT | {"save_steps": 2, "num_train_epochs": 1})
    looking = _KillsAt(0)
    looking.saved = lambda engine, step: looking.seen.append(("saved", step))  # type: ignore[method-assign]
    job = _job(tmp_path / "unit", settings, _rows(9, 1))
    train_with_trl(replace(job, observers=[looking]))
    kept = [path.name for path in checkpoint_folders(tmp_path / "unit" / "checkpoints")]
    assert kept == ["2"]
    assert [event for event in looking.seen if event[0] == "saved"] == [("saved", 2), ("saved", 3)]
    state = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "unit/checkpoints/2")
    assert state.num_parameters() > 0


def test_adapters_are_trained_alone_and_merged_into_the_model_in_the_end(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    lora = LoraSettings(r=2, lora_alpha=4, target_modules=("q_proj", "down_proj"))
    settings = DpoSettings(loss=Dpo(beta=0.2), lora=lora, **SHORT | {"num_train_epochs": 1})
    train_with_trl(_job(tmp_path / "unit", settings, _rows(8, 2)))
    base, made = (
        transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "base", tmp_path / "unit" / "model")
    )
    assert base.keys() == made.keys()
    changed = {name for name in base if not base[name].equal(made[name])}
    assert changed
    assert all("q_proj" in name or "down_proj" in name for name in changed)
    lines = list(read_jsonl(tmp_path / "unit" / "metrics.jsonl"))
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


RANK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_trl_engine as here
settings = here.DpoSettings(loss=here.Dpo(beta=0.2), engine="trl", **here.SHORT)
here.train(here._job(Path(sys.argv[2]), settings, here._rows(8, 2)))
"""


@pytest.mark.slow
def test_two_ranks_of_trl_give_the_loss_curve_of_one(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    save_base(tmp_path / "base")
    for unit, world in (("one", 1), ("two", 2)):
        (tmp_path / unit).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", RANK, str(Path(__file__).parent), str(tmp_path / unit)],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank),
                     "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            )
            for rank in range(world)
        ]  # fmt: skip
        assert [process.wait(240) for process in processes] == [0] * world
    one, two = (list(read_jsonl(tmp_path / unit / "metrics.jsonl")) for unit in ("one", "two"))
    assert len(one) == len(two) == 4
    for alone, together in zip(one, two, strict=True):
        for name in ("loss", "grad_norm", "margins", "logps_chosen"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-6)
    assert not (tmp_path / "two" / "trl_rows").exists()


def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    settings = SftSettings(**SHORT | {"num_train_epochs": 1})
    job = _job(tmp_path / "unit", settings, _rows(8, 1))
    train_with_trl(job)
    with pytest.raises(TrainingError, match="run with other rows or settings"):
        train_with_trl(replace(job, examples=_rows(7, 1)))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    settings = SftSettings(**SHORT | {"learning_rate": 1e30, "max_grad_norm": 0, "save_steps": 1})
    with pytest.raises(TrainingError, match=r"step \d is not finite; its rows .*p\d") as caught:
        train_with_trl(_job(tmp_path / "unit", settings, _rows(8, 1)))
    step = int(str(caught.value).split("step ")[1].split()[0])
    saved = {step_of(f) for f in checkpoint_folders(tmp_path / "unit" / "checkpoints")}
    assert step > 1
    assert max(saved) < step


def test_losses_that_trl_lacks_are_faults_with_the_names_it_has() -> None:
    (key, message), *more = trl_faults(DpoSettings(loss=ChosenLikelihood()))
    assert (key, more) == ("loss", [])
    assert "sft, dpo, length_normalized_dpo" in message
    assert list(trl_faults(DpoSettings(loss=Dpo(beta=3)))) == []
    assert [key for key, _ in trl_faults(DpoSettings(loss=Ipo(average=False)))] == ["loss.average"]


def test_rows_with_weights_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    rows = [replace(row, weight=0.5) for row in _rows(8, 1)]
    with pytest.raises(TrainingError, match="no weights of rows"):
        train_with_trl(_job(tmp_path / "unit", SftSettings(**SHORT), rows))


@pytest.mark.parametrize(("asked", "rows", "made"), [(3, 8, 2), (2, 8, 2), (9, 6, 6), (5, 7, 1)])
def test_a_micro_batch_divides_the_rows_of_a_step(asked: int, rows: int, made: int) -> None:
    job: Any = SimpleNamespace(
        examples=random_examples(4, 1), where=SimpleNamespace(micro_batch_size=asked)
    )
    assert micro_batch_rows(job, rows) == made
