"""What a training unit would take, told before it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusechat.losses.dpo import Dpo
from fusechat.losses.simpo import Simpo
from fusechat.settings import Where
from fusechat.stages import train_plan
from fusechat.stages.train_plan import (
    RowCosts,
    costs_of_examples,
    engine_faults,
    plan_training,
    rate_of,
    read_trials,
    shape_of_model,
)
from fusechat.stages.train_settings import DpoSettings, LoraSettings, SftSettings
from fusechat.training.examples import Example, Text
from fusechat.training.flops import forward_flops, load_of, unit_flops
from fusechat.training.memory_shapes import PUBLISHED

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
SFT = SftSettings(dtype="bfloat16")
DPO = DpoSettings(dtype="bfloat16", loss=Dpo(beta=0.1))


def _row(number: int, prompt: int, *responses: int) -> Example:
    texts = [Text(np.arange(prompt + n, dtype=np.int32), prompt) for n in responses]
    return Example(f"p{number}", tuple(texts), 1.0)


def _costs(rows: int, prompt: int, *responses: int) -> RowCosts:
    return costs_of_examples([_row(0, prompt, *responses)], rows, "made up")


def test_the_papers_steps_come_out() -> None:
    sft = plan_training("train/sft", SFT, LLAMA_8B, Where(gpu="h200"), _costs(94_539, 200, 430))
    dpo = DpoSettings(dtype="bfloat16", held_out=0)
    pairs = plan_training(
        "train/dpo", dpo, LLAMA_8B, Where(gpu="h200"), _costs(64_128, 190, 430, 430)
    )
    assert (sft.steps, pairs.steps) == (2217, 501)  # 3 x 739; 64,128 / 128


def test_hours_are_the_operations_at_the_rate() -> None:
    where = Where(gpu="h100", ranks=8, sharding="fsdp2")
    plan = plan_training("train/sft", SFT, LLAMA_8B, where, _costs(94_539, 200, 400))
    shape = PUBLISHED[LLAMA_8B]
    assert plan.choice is not None
    load = load_of([(200, 400)]).times(94_539)
    wanted = unit_flops(shape, load, 3, plan.choice.how.checkpointing, reference=False)
    assert plan.hours == pytest.approx(wanted / (0.32 * 989e12) / 8 / 3600)
    # About 7.6e18 operations without checkpointing: performance is 2 B tokens x 3.
    body, head = forward_flops(shape, load)
    assert 3 * 3 * (body + head) == pytest.approx(7.6e18, rel=0.05)
    assert plan.fits


def test_held_out_rows_are_neither_trained_on_nor_paid_for() -> None:
    where = Where(gpu="h200")
    none, half = (
        plan_training(
            "train/dpo", DPO.model_copy(update={"held_out": share}), LLAMA_8B, where,
            _costs(10_000, 100, 300, 300),
        )
        for share in (0, 0.5)
    )  # fmt: skip
    assert (none.steps, half.steps) == (79, 40)
    assert none.hours is not None
    assert half.hours == pytest.approx(none.hours / 2)


def test_prompts_count_once_only_where_they_are_shared() -> None:
    where, costs = Where(gpu="h200"), _costs(1000, 900, 100, 100)
    hours = [
        plan_training(
            "train/dpo", DPO.model_copy(update={"share_prompts": asked}), LLAMA_8B, where, costs
        ).hours
        for asked in ("always", "auto", "never")
    ]
    assert hours[0] == hours[1]
    assert hours[2] is not None
    assert hours[0] is not None
    assert 1.6 < hours[2] / hours[0] < 2.0  # (2 x 900 + 200) / (900 + 200) = 1.8


def test_a_target_that_does_not_fit_is_a_fault_with_what_would() -> None:
    plan = plan_training("train/sft", SFT, LLAMA_8B, Where(gpu="h100"), None)
    fault = plan.fault()
    assert fault is not None
    assert "train/sft takes 13" in fault
    assert "one h100 has 81." in fault
    assert "ranks with sharding: fsdp2 fit" in fault
    assert "lora: {r: 16} fits" in fault
    assert any("does NOT fit" in line for line in plan.lines())
    lora = SFT.model_copy(update={"lora": LoraSettings()})
    assert plan_training("train/sft", lora, LLAMA_8B, Where(gpu="h100"), None).fault() is None
    shared = Where(gpu="h100", ranks=8, sharding="fsdp2")
    assert plan_training("train/sft", SFT, LLAMA_8B, shared, None).fault() is None
    apart = Where(gpu="h100", ranks=8)
    assert "each of 8 h100" in str(plan_training("train/sft", SFT, LLAMA_8B, apart, None).fault())


def test_rows_are_as_long_as_max_length_where_nobody_has_counted_them() -> None:
    short, long = (
        plan_training(
            "train/dpo", DPO.model_copy(update={"max_length": length}), LLAMA_8B,
            Where(gpu="h200", micro_batch_tokens=512), None,
        )
        for length in (512, 2048)
    )  # fmt: skip
    assert short.choice is not None
    assert long.choice is not None
    assert short.choice.needs.kept < long.choice.needs.kept
    assert (short.hours, short.steps, short.rows) == (None, None, None)


def test_a_model_of_unknown_sizes_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert shape_of_model(str(tmp_path)) is None
    plan = plan_training("train/sft", SFT, str(tmp_path), Where(gpu="h100"), _costs(100, 10, 10))
    assert plan.fault() is None
    assert plan.steps == 3
    assert plan.hours is None
    assert any("memory is not planned" in line for line in plan.lines())
    config = {
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 66,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = shape_of_model(str(tmp_path))
    assert found is not None
    assert found.parameters == 66 * 16 * 2 + 2 * (16 * (32 + 16) + 3 * 16 * 32) + 5 * 16


def test_a_measured_rate_takes_the_place_of_the_assumed_one(tmp_path: Path) -> None:
    where = Where(gpu="h200")
    assumed = rate_of(where, SFT)
    assert assumed is not None
    assert assumed.value == pytest.approx(0.32 * 989e12)
    assert "assumed" in assumed.origin
    for number, (device, rate) in enumerate(
        [("NVIDIA H200", 4e14), ("NVIDIA A100", 1e14), ("NVIDIA H200", 5e14), ("cpu", 1e9)]
    ):
        folder = tmp_path / f"train-sft-{number}"
        folder.mkdir()
        (folder / "trial.json").write_text(json.dumps({"device": device, "rate": rate}))
    trials = read_trials(tmp_path)
    assert len(trials) == 4
    trials.sort(key=lambda one: one["rate"])
    measured = rate_of(where, SFT, trials)
    assert measured is not None
    assert measured.value == 5e14
    assert measured.origin == "measured by a run on NVIDIA H200"
    assert rate_of(Where(device="cpu"), SFT, trials) == train_plan.Rate(
        1e9, "measured by a run on cpu"
    )
    assert rate_of(Where(device="cpu"), SFT) is None


def test_json_has_the_bytes_and_where_the_rate_comes_from() -> None:
    plan = plan_training("train/sft", SFT, LLAMA_8B, Where(gpu="h200"), _costs(1000, 10, 50))
    tree: Any = json.loads(json.dumps(plan.as_json()))
    assert tree["memory"]["parts"]["moments"] == 8 * PUBLISHED[LLAMA_8B].parameters
    assert tree["memory"]["fits"] is True
    assert tree["rate"]["from"].startswith("assumed")
    assert any("rows and lengths: made up" in note for note in tree["notes"])


def test_engine_trl_with_a_loss_that_trl_lacks_is_a_fault_before_anything_runs() -> None:
    pytest.importorskip("trl")
    assert list(engine_faults(DpoSettings(engine="trl", loss=Dpo()))) == []
    (key, message), *rest = engine_faults(DpoSettings(engine="trl", loss=Simpo()))
    assert key == "loss"
    assert "sft, dpo, length_normalized_dpo, ipo" in message
    assert rest == []
    assert list(engine_faults(DpoSettings(loss=Simpo()))) == []


def test_without_trl_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, extra: str) -> str | None:
        return f"{package} missing: fusechat[{extra}]" if package != "datasets" else None

    monkeypatch.setattr(train_plan, "package_fault", missing)
    found = list(engine_faults(DpoSettings(engine="trl", loss=Dpo(), lora=LoraSettings())))
    assert found == [
        ("engine", "trl missing: fusechat[trl]"), ("lora", "peft missing: fusechat[train]"),
    ]  # fmt: skip


DEVICES: dict[str, dict[str, Any]] = {
    "24 GB": {"gpu": "24GB"}, "H100": {"gpu": "h100"}, "H200": {"gpu": "h200"},
    "8 x H100": {"gpu": "h100", "ranks": 8, "sharding": "fsdp2"},
}  # fmt: skip


def _cell(model: str, where: dict[str, Any]) -> str:
    """A cell of the table of predictions in docs/training.md."""
    sft_costs = replace(_costs(94_539, 170, 430), longest=2048)
    dpo_costs = replace(_costs(64_128, 190, 430, 430), longest=4096)
    sft = plan_training("train/sft", SFT, model, Where(**where), sft_costs)
    pairs = DPO.model_copy(update={"held_out": 0})
    dpo = plan_training("train/dpo", pairs, model, Where(**where), dpo_costs)
    assert dpo.choice is not None
    needed = f"{dpo.choice.needs.total / 1e9:.0f} GB"
    if not dpo.fits:
        options = [option.split(" fit")[0] for option in dpo.choice.options[:-1]]
        words = [option.replace(" with sharding: fsdp2", "") for option in options]
        return f"no, {needed}: {' or '.join(words) or 'too small'}"
    how = "checkpointing" if dpo.choice.how.checkpointing else "none"
    hours = [one.hours for one in (sft, dpo) if one.hours is not None]
    told = f"; {' + '.join(f'{one:.2g}' for one in hours)} h" if hours else ""
    return f"{needed}: {dpo.choice.tokens:,}, {how}{told}"


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_table_of_predictions_in_the_docs_is_what_plan_says(model: str) -> None:
    row = " | ".join(_cell(model, where) for where in DEVICES.values())
    docs = Path(__file__).parents[2] / "docs" / "training.md"
    assert f"| {model.split('/')[1]} | {row} |" in docs.read_text(encoding="utf-8")
