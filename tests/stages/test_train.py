"""The training stages, from tables to a model folder, on tiny random models."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from training_tiny import (
    FAMILIES,
    bytes_of,
    context_of,
    demonstrations,
    make_model,
    pairs,
    save_base,
    save_build,
)
from transformers import AutoModelForCausalLM

from fusechat.chat import load_tokenizer
from fusechat.errors import TrainingError
from fusechat.files import read_jsonl
from fusechat.losses.chosen_likelihood import ChosenLikelihood
from fusechat.losses.dpo import Dpo
from fusechat.records import Demonstration, Dropped, Pair
from fusechat.stages.train import train_dpo, train_sft
from fusechat.stages.train_settings import DpoSettings, SftSettings
from fusechat.tables import read_table, write_table

STEPS: dict[str, Any] = {"global_batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 1}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return save_build(tmp_path / "build", demonstrations(24), pairs(24))


def _lines(folder: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / "metrics.jsonl"))


@pytest.mark.parametrize("family", FAMILIES)
def test_sft_learns_and_writes_a_model_that_transformers_and_chat_load(
    family: str, tmp_path: Path, build: Path
) -> None:
    base = save_base(tmp_path / family, family)
    unit = tmp_path / "unit"
    counts = train_sft(context_of(unit, base, build, SftSettings(**STEPS, num_train_epochs=8)))
    lines = _lines(unit)
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    assert (counts["rows"], counts["dropped"], counts["steps"]) == (24, 0, 24)
    assert counts["final"]["loss"] < lines[0]["loss"]
    model = AutoModelForCausalLM.from_pretrained(unit / "model")
    assert model.dtype == torch.float32
    assert load_tokenizer(unit / "model").chat_template == load_tokenizer(base).chat_template


def test_a_line_of_an_sft_run_says_what_it_should(tmp_path: Path, base: Path, build: Path) -> None:
    train_sft(context_of(tmp_path / "unit", base, build, SftSettings(**STEPS, num_train_epochs=1)))
    assert list(_lines(tmp_path / "unit")[0]) == [
        "step", "epoch", "learning_rate", "rows", "loss",
        "logps_response", "token_logps_response", "lengths_response", "grad_norm",
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [DpoSettings(**STEPS), DpoSettings(**STEPS, loss=Dpo())])
def test_dpo_begins_at_ln_2_and_comes_to_prefer_the_chosen_side(
    settings: DpoSettings, tmp_path: Path, base: Path, build: Path
) -> None:
    settings = settings.model_copy(update={"num_train_epochs": 4.0})
    unit = tmp_path / "unit"
    counts = train_dpo(context_of(unit, base, build, settings))
    first, *_, last = _lines(unit)
    assert first["loss"] == pytest.approx(math.log(2), rel=1e-7)
    assert (first["margins"], first["accuracies"]) == (0.0, 0.0)
    assert last["accuracies"] == 1.0
    assert last["margins"] > 0
    assert last["loss"] < 0.6
    assert counts["steps"] == 12
    sides = ("chosen", "rejected")
    kinds = ("rewards", "logps", "token_logps", "lengths")
    assert {f"{kind}_{side}" for kind in kinds for side in sides} < set(last)


@pytest.mark.parametrize(
    ("stage", "settings", "near"),
    [
        (train_sft, SftSettings(**STEPS), 1e-6),
        (train_dpo, DpoSettings(**STEPS, loss=Dpo()), 1e-6),
        # Beta 10 per token makes ten times as much of the float32 rounding of a log-probability.
        (train_dpo, DpoSettings(**STEPS), 1e-5),
    ],
)
def test_the_size_of_micro_batches_leaves_the_loss_curve_as_it_is(
    stage: Callable[..., Any], settings: Any, near: float, tmp_path: Path, base: Path, build: Path
) -> None:
    settings = settings.model_copy(update={"learning_rate": 1e-3, "num_train_epochs": 2.0})
    for size in (2, 8):
        stage(context_of(tmp_path / str(size), base, build, settings, micro_batch_size=size))
    two, eight = ([line["loss"] for line in _lines(tmp_path / size)] for size in ("2", "8"))
    assert two == pytest.approx(eight, rel=near)


def test_the_seed_decides_the_order_and_the_same_seed_gives_the_same_bytes(
    tmp_path: Path, base: Path, build: Path
) -> None:
    settings = SftSettings(**STEPS, num_train_epochs=1)
    for unit, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_sft(context_of(tmp_path / unit, base, build, settings, seed=seed))
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert _lines(tmp_path / "a") != _lines(tmp_path / "c")


def test_a_finished_run_that_is_run_again_writes_the_same_bytes(
    tmp_path: Path, base: Path, build: Path
) -> None:
    context = context_of(tmp_path / "unit", base, build, DpoSettings(**STEPS, save_steps=2))
    train_dpo(context)
    first = bytes_of(tmp_path / "unit")
    train_dpo(context)
    assert bytes_of(tmp_path / "unit") == first


def test_the_reference_is_made_once_and_used_again(tmp_path: Path, base: Path, build: Path) -> None:
    unit = tmp_path / "unit"
    context = context_of(unit, base, build, DpoSettings(**STEPS, save_steps=2))
    train_dpo(context)
    written = (unit / "reference" / "logps.safetensors").stat().st_mtime_ns
    train_dpo(context)
    assert (unit / "reference" / "logps.safetensors").stat().st_mtime_ns == written


def test_rows_that_are_too_long_are_dropped_and_counted(
    tmp_path: Path, base: Path, build: Path
) -> None:
    settings = SftSettings(**STEPS, max_length=12, num_train_epochs=1)
    counts = train_sft(context_of(tmp_path / "unit", base, build, settings))
    dropped = list(read_table(tmp_path / "unit" / "dropped", Dropped))
    assert 0 < counts["dropped"] == len(dropped) < 24
    assert counts["rows"] == 24 - len(dropped)
    assert {row.reason for row in dropped} == {"longer than max_length"}


def test_a_data_set_of_only_long_rows_says_to_raise_max_length(
    tmp_path: Path, base: Path, build: Path
) -> None:
    settings = SftSettings(**STEPS, max_length=3)
    with pytest.raises(
        TrainingError, match=r"all 24 rows .* 'longer than max_length' \(24\).* max_length \(3\)"
    ):
        train_sft(context_of(tmp_path / "unit", base, build, settings))


def test_an_empty_data_set_says_which_filter_to_look_at(tmp_path: Path, base: Path) -> None:
    build = save_build(tmp_path / "empty")
    dropped = [
        Dropped(prompt_id=str(n), origin="o", domain="chat", stage="dpo", reason="margin too small")
        for n in range(3)
    ]
    write_table(build / "dropped", dropped, Dropped)
    with pytest.raises(TrainingError, match=r"data set is empty.*'margin too small' \(3\)"):
        train_dpo(context_of(tmp_path / "unit", base, build, DpoSettings(**STEPS)))


def test_a_loss_that_is_not_finite_stops_before_any_weight_is_changed(
    tmp_path: Path, build: Path
) -> None:
    base = save_base(tmp_path / "base")
    broken = make_model()
    broken.lm_head.weight.data[7] = float("inf")
    broken.save_pretrained(base)
    with pytest.raises(TrainingError, match=r"of step 1 is not finite; rows \(prompt ids\): p"):
        train_sft(context_of(tmp_path / "unit", base, build, SftSettings(**STEPS)))
    assert not (tmp_path / "unit" / "model").exists()
    assert _lines(tmp_path / "unit") == []


def test_bfloat16_trains_float32_weights_close_to_float32(
    tmp_path: Path, base: Path, build: Path
) -> None:
    for dtype in ("float32", "bfloat16"):
        settings = SftSettings.model_validate({**STEPS, "num_train_epochs": 2, "dtype": dtype})
        train_sft(context_of(tmp_path / dtype, base, build, settings))
    full, mixed = (_lines(tmp_path / dtype) for dtype in ("float32", "bfloat16"))
    assert mixed[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.02)
    assert mixed != full
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "bfloat16" / "model").dtype == (
        torch.float32
    )


def test_checkpoints_are_model_folders_and_only_the_last_two_stay(
    tmp_path: Path, base: Path, build: Path
) -> None:
    settings = SftSettings(**STEPS, num_train_epochs=3, save_steps=2)
    train_sft(context_of(tmp_path / "unit", base, build, settings))
    folders = sorted(path.name for path in (tmp_path / "unit" / "checkpoints").iterdir())
    assert folders == ["6", "8"]
    AutoModelForCausalLM.from_pretrained(tmp_path / "unit" / "checkpoints" / "8")
    load_tokenizer(tmp_path / "unit" / "checkpoints" / "8")


def test_the_control_on_chosen_responses_trains_the_model_that_sft_on_them_trains(
    base: Path, tmp_path: Path
) -> None:
    rows = pairs(24)
    fields = ("prompt_id", "messages", "source", "origin", "domain")
    chosen = [
        Demonstration(
            **{name: getattr(row, name) for name in fields},
            response=row.chosen,
            response_id=row.chosen_id,
        )
        for row in rows
    ]
    build = save_build(tmp_path / "build", chosen, rows)
    same: dict[str, Any] = {**STEPS, "num_train_epochs": 2}
    sft, dpo = tmp_path / "sft", tmp_path / "dpo"
    train_sft(context_of(sft, base, build, SftSettings(**same)))
    counts = train_dpo(context_of(dpo, base, build, DpoSettings(loss=ChosenLikelihood(), **same)))
    models = [AutoModelForCausalLM.from_pretrained(f / "model") for f in (sft, dpo)]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    for wanted, found in zip(_lines(sft), _lines(dpo), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
        assert found["logps_chosen"] == pytest.approx(wanted["logps_response"], rel=1e-4)
    assert {"margins", "accuracies", "logps_rejected"} <= set(counts["final"])


def test_held_out_rows_are_kept_as_a_table_and_not_trained_on(
    tmp_path: Path, base: Path, build: Path
) -> None:
    counts = train_dpo(
        context_of(tmp_path / "unit", base, build, DpoSettings(**STEPS, held_out=0.25))
    )
    held = list(read_table(tmp_path / "unit" / "held_out", Pair))
    assert (counts["rows"], counts["held_out"], counts["dropped"]) == (18, 6, 0)
    assert {row.prompt_id for row in held} < {f"p{number}" for number in range(24)}
    kept = [row for row in pairs(24) if row not in held]
    assert len(kept) == 18
    save_build(tmp_path / "rest", dpo=kept)
    train_dpo(
        context_of(tmp_path / "alone", base, tmp_path / "rest", DpoSettings(**STEPS, held_out=0.0))
    )
    assert _lines(tmp_path / "unit") == _lines(tmp_path / "alone")


def test_sft_holds_nothing_out_and_has_no_such_table(
    tmp_path: Path, base: Path, build: Path
) -> None:
    counts = train_sft(context_of(tmp_path / "unit", base, build, SftSettings(**STEPS)))
    assert "held_out" not in counts
    assert not (tmp_path / "unit" / "held_out").exists()


def test_rows_are_dropped_with_their_reasons_and_none_of_them_is_held_out(
    tmp_path: Path, base: Path
) -> None:
    rows = pairs(24)
    same = rows[0].model_copy(update={"rejected": rows[0].chosen})
    long = rows[1].model_copy(update={"chosen": "w1 " * 60})
    build = save_build(tmp_path / "mixed", dpo=[same, long, *rows[2:]])
    settings = DpoSettings(**STEPS, held_out=0.5, max_length=40)
    counts = train_dpo(context_of(tmp_path / "unit", base, build, settings))
    assert (counts["rows"], counts["held_out"], counts["dropped"]) == (11, 11, 2)
    assert counts["reasons"] == {
        "both responses are the same tokens": 1, "longer than max_length": 1,
    }  # fmt: skip
    held = {row.prompt_id for row in read_table(tmp_path / "unit" / "held_out", Pair)}
    assert not held & {"p0", "p1"}


def test_pairs_of_both_builds_are_trained_on(tmp_path: Path, base: Path, build: Path) -> None:
    later = [row.model_copy(update={"prompt_id": f"q{row.prompt_id}"}) for row in pairs(8, seed=1)]
    context = context_of(tmp_path / "unit", base, build, DpoSettings(**STEPS, held_out=0.0))
    both = {**context.inputs, "build/on_policy": save_build(tmp_path / "later", dpo=later)}
    assert train_dpo(replace(context, inputs=both))["rows"] == 32


def test_a_loss_of_other_rows_than_the_table_has_is_refused_by_name(
    tmp_path: Path, base: Path, build: Path
) -> None:
    settings = DpoSettings.model_validate({**STEPS, "loss": {"use": "wrpo"}})
    with pytest.raises(TrainingError, match=r"'wrpo' learns from Triple rows .* has Pair rows"):
        train_dpo(context_of(tmp_path / "unit", base, build, settings))
