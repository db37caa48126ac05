"""Checkpoints hold all that the next step depends on, and are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_tiny import bytes_of, make_model, make_tokenizer

from fusechat.errors import TrainingError
from fusechat.stages.train_settings import SftSettings
from fusechat.training.checkpoints import (
    Checkpoints,
    Weights,
    read_finished,
    restore_optimizer,
    write_finished,
)
from fusechat.training.models import load_model, make_optimizer, publish, without_bars
from fusechat.training.ranks import Ranks

CPU = torch.device("cpu")


def _stepped(model: Any) -> torch.optim.Optimizer:
    optimizer = make_optimizer(model, SftSettings(learning_rate=0.1, weight_decay=0.01))
    _step(model, optimizer)
    return optimizer


def _step(model: Any, optimizer: torch.optim.Optimizer) -> None:
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.1 * (number - 3))
    optimizer.step()


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    model = make_model()
    optimizer = _stepped(model)
    with without_bars():
        for step in steps:
            _save_one(checkpoints, step, model, optimizer)


def _save_one(checkpoints: Checkpoints, step: int, model: Any, optimizer: Any) -> None:
    alone = Ranks(CPU)
    weights = Weights.of(model, Path("base"), alone, sharded=False)
    checkpoints.save(step, weights, make_tokenizer(), optimizer, alone)


def test_the_step_after_a_checkpoint_is_the_same_from_memory_and_from_disk(tmp_path: Path) -> None:
    model, checkpoints = make_model("gemma2"), Checkpoints(tmp_path, "run", 2)
    optimizer = _stepped(model)
    with without_bars():
        _save_one(checkpoints, 7, model, optimizer)
        random = torch.rand(3)
        found = checkpoints.newest()
        assert found is not None
        assert found.step == 7
        other = load_model(found.folder, CPU)
    restored = make_optimizer(other, SftSettings(learning_rate=0.1, weight_decay=0.01))
    restore_optimizer(found, restored)
    assert torch.rand(3).equal(random)
    _step(model, optimizer)
    _step(other, restored)
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert one.equal(same)


def test_only_the_newest_are_kept_in_the_order_of_their_steps(tmp_path: Path) -> None:
    _save(Checkpoints(tmp_path, "run", 2), 8, 9, 10, 11)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11"]


def test_a_checkpoint_of_other_rows_or_settings_is_refused_by_name(tmp_path: Path) -> None:
    _save(Checkpoints(tmp_path, {"seed": 1}, 2), 5)
    with pytest.raises(TrainingError, match=r"other rows or settings\. Remove"):
        Checkpoints(tmp_path, {"seed": 2}, 2).newest()


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", "run", 2)
    assert checkpoints.newest() is None
    (tmp_path / "none" / ".5.tmp").mkdir(parents=True)
    assert checkpoints.newest() is None


def test_publishing_replaces_an_older_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("old", "new"):
        publish(tmp_path / "model", lambda f, t=text: (f / "file").write_text(t) and None, "x")  # type: ignore[misc]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_a_failed_write_leaves_the_older_folder_as_it_was(tmp_path: Path) -> None:
    publish(tmp_path / "model", lambda folder: _write(folder, "old"), "x")
    before = bytes_of(tmp_path / "model")
    with pytest.raises(ZeroDivisionError):
        publish(tmp_path / "model", lambda folder: _write(folder, 1 / 0), "x")
    assert bytes_of(tmp_path / "model") == before


def _write(folder: Path, content: object) -> None:
    (folder / "file").write_text(str(content))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=str(tmp_path)):
        load_model(tmp_path, CPU)


def test_weight_decay_spares_biases_and_norms() -> None:
    optimizer = make_optimizer(make_model("qwen2"), SftSettings(weight_decay=0.1))
    decay = {
        parameter.dim() > 1: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decay == {True: 0.1, False: 0.0}


def test_a_finished_run_is_known_by_what_it_was_and_by_its_model(tmp_path: Path) -> None:
    write_finished(tmp_path, {"seed": 1}, {"steps": 3})
    assert read_finished(tmp_path, {"seed": 1}) is None  # its model is not there
    (tmp_path / "model").mkdir()
    assert read_finished(tmp_path, {"seed": 1}) == {"steps": 3}
    assert read_finished(tmp_path, {"seed": 2}) is None
