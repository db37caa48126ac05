"""Choosing a state: which folders are published, what is written, and how pairs are ranked."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from tests.stages.stored_logps import store_logps
from training_tiny import bytes_of, context_of, make_tokenizer, pairs, save_base
from transformers import AutoModelForCausalLM

from fusechat.chat import encode_chat
from fusechat.errors import TrainingError
from fusechat.files import write_json
from fusechat.losses.dpo import Dpo
from fusechat.losses.infifpo import InfiFpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.records import Pair
from fusechat.stages.context import UnitContext
from fusechat.stages.held_out import write_held_out
from fusechat.stages.select import select
from fusechat.stages.select_candidates import (
    candidate_folder,
    list_candidates,
    model_files,
    number_of,
    placeholder,
    write_candidates,
)
from fusechat.stages.select_pairs import rank_held_out
from fusechat.stages.train_settings import DpoSettings, SelectSettings


def trained(folder: Path, total: int, steps: list[int], rows: int = 6) -> Path:
    """A finished `train/dpo` whose states are different random models."""
    for place, step in enumerate([*steps, total]):
        last = place == len(steps)
        state = folder / "model" if last else folder / "checkpoints" / str(step)
        save_base(state, seed=10 + place)
        if not last:
            (state / "optimizer.safetensors").write_bytes(b"moments")
            write_json(state / "state.json", {"step": step, "run": "r"})
    write_held_out(folder, pairs(rows, seed=3), Pair)
    write_json(folder / "manifest.json", {"counts": {"steps": total}, "tables": {}})
    return folder


def asked(
    tmp_path: Path, unit: Path, rule: SelectSettings, loss: Any = None, **inputs: Path
) -> UnitContext:
    train = DpoSettings(save_steps=2, loss=loss or LengthNormalizedDpo(), select=rule)
    base = save_base(tmp_path / "base", seed=1)
    context = context_of(tmp_path / "select", base, tmp_path, {"select": rule, "train": train})
    named = {name.replace("__", "/"): path for name, path in inputs.items()}
    context.folder.mkdir(exist_ok=True)
    return UnitContext(**{**vars(context), "inputs": {"train/dpo": unit, "model": base, **named}})


def told(context: UnitContext) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context.folder / "chosen.json").read_text())
    return found


def plain(unit: Path, step: int | None) -> dict[str, str]:
    """What a model folder of that state holds, without what only training needs."""
    folder = unit / "checkpoints" / str(step) if step else unit / "model"
    skipped = ("optimizer.safetensors", "state.json")
    return {name: held for name, held in bytes_of(folder).items() if name not in skipped}


# --- What is published


def test_the_chosen_state_is_a_whole_model_without_what_training_needs(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    context = asked(tmp_path, unit, SelectSettings(final_state="never", beyond_chance=False))
    counts = select(context)
    assert counts["candidates"] == [4, 2]
    assert counts["step"] in (4, 2)
    assert bytes_of(context.folder / "model") == plain(unit, counts["step"])
    assert AutoModelForCausalLM.from_pretrained(context.folder / "model").config.vocab_size > 0
    assert told(context)["step"] == counts["step"]
    assert told(context)["reason"] == counts["reason"]


def test_files_are_linked_and_copied_where_links_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = trained(tmp_path / "unit", 5, [])
    context = asked(tmp_path, unit, SelectSettings(by="last"))
    select(context)
    weights = "model.safetensors"
    assert (context.folder / "model" / weights).samefile(unit / "model" / weights)

    def refuse(*names: Any, **more: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    select(context)
    assert not (context.folder / "model" / weights).samefile(unit / "model" / weights)
    assert bytes_of(context.folder / "model") == plain(unit, None)


def test_last_takes_the_state_after_the_last_step_and_looks_at_nothing(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    context = asked(tmp_path, unit, SelectSettings(by="last"))
    assert select(context) == {
        "step": 5, "by": "last", "candidates": [5],
        "reason": "the state after the last step, by rule",
    }  # fmt: skip
    assert told(context)["comparisons"] == []


def test_a_short_run_says_that_there_is_nothing_to_choose(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 1, [])
    counts = select(asked(tmp_path, unit, SelectSettings()))
    assert (counts["step"], counts["candidates"]) == (1, [1])
    assert "saved no checkpoint before its end" in counts["reason"]


def test_a_checkpoint_that_is_gone_stops_the_choice(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [4])
    rule = SelectSettings(final_state="never")
    with pytest.raises(TrainingError, match=r"the checkpoints 2 of .*--refresh train/dpo"):
        list_candidates(unit, DpoSettings(save_steps=2), rule)


def test_what_hugging_faces_trainers_leave_in_a_checkpoint_is_no_models(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "chat_template.jinja", "optimizer.pt",
                 "rng_state_0.pth", "trainer_state.json", "training_args.bin"):  # fmt: skip
        (tmp_path / name).write_text("x")
    assert [path.name for path in model_files(tmp_path)] == [
        "chat_template.jinja", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_adapters_are_published_beside_the_model_that_has_them_merged(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    for folder in (unit, unit / "checkpoints" / "4", unit / "checkpoints" / "2"):
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_model.safetensors").write_text(folder.name)
    context = asked(tmp_path, unit, SelectSettings(final_state="never"))
    step = select(context)["step"]
    weights = context.folder / "adapter" / "adapter_model.safetensors"
    assert weights.read_text() == str(step)
    assert not (context.folder / "model" / "adapter").exists()
    context = asked(tmp_path, unit, SelectSettings(by="last"))
    select(context)
    assert weights.read_text() == "unit"


# --- Candidates of a task


def test_candidates_are_numbered_from_the_newest(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    rule = SelectSettings(by="task", task={"use": "mini_math"})  # type: ignore[arg-type]
    context = asked(tmp_path, unit, rule)
    assert candidate_folder(context.folder, 1) is None  # not written yet
    assert write_candidates(context) == {"candidates": [5, 4]}
    first, second = (candidate_folder(context.folder, number) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("checkpoint-5", "checkpoint-4")
    assert bytes_of(first) == plain(unit, None)
    assert bytes_of(second) == plain(unit, 4)
    assert candidate_folder(context.folder, 3) is None


def test_a_candidate_alone_is_not_sampled(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 1, [])
    rule = SelectSettings(by="task", task={"use": "mini_math"})  # type: ignore[arg-type]
    context = asked(tmp_path, unit, rule)
    assert write_candidates(context) == {"candidates": [1]}
    assert candidate_folder(context.folder, 1) is None


def test_the_name_of_a_candidate_can_be_read_again() -> None:
    assert number_of(placeholder(2)) == 2
    assert number_of("train.dpo") is None


# --- How pairs are ranked


def by_hand(model: Any, row: Pair) -> list[tuple[float, int]]:
    """Log-probability and tokens of both sides, by transformers alone."""
    found = []
    for text in (row.chosen, row.rejected):
        turns = [{"role": "user", "content": row.messages[0].content}]
        encoded = encode_chat(make_tokenizer(), turns, text)
        ids = torch.tensor([encoded.ids])
        with torch.inference_mode():
            logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = logps.gather(1, ids[0, 1:, None])[:, 0].double()[encoded.response_start - 1 :]
        found.append((float(each.sum()), len(each)))
    return found


@pytest.mark.parametrize("loss", [LengthNormalizedDpo(beta=2.0), Dpo(beta=0.1)])
def test_margins_and_losses_of_held_out_pairs_are_those_worked_out_by_hand(
    loss: Any, tmp_path: Path
) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    context = asked(tmp_path, unit, SelectSettings(), loss)
    found = rank_held_out(
        context, list_candidates(unit, DpoSettings(save_steps=2), SelectSettings())
    )
    assert len(found) == 2
    base = AutoModelForCausalLM.from_pretrained(context.inputs["model"]).eval()
    for folder, one in zip((unit / "model", unit / "checkpoints" / "4"), found, strict=True):
        state = AutoModelForCausalLM.from_pretrained(folder).eval()
        for place, row in enumerate(pairs(6, seed=3)):
            ours, reference = by_hand(state, row), by_hand(base, row)
            ratios = [a[0] - b[0] for a, b in zip(ours, reference, strict=True)]
            normal = [ratio / one[1] for ratio, one in zip(ratios, ours, strict=True)]
            used = normal if isinstance(loss, LengthNormalizedDpo) else ratios
            z = loss.beta * (used[0] - used[1])
            assert one.margins[place] == pytest.approx(normal[0] - normal[1], abs=1e-5)
            assert one.losses[place] == pytest.approx(math.log1p(math.exp(-z)), abs=1e-4)


def test_a_loss_over_sources_reads_them_for_the_held_out_pairs(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    ids = [name for row in pairs(6, seed=3) for name in (row.chosen_id, row.rejected_id)]
    known: dict[str, tuple[float, int] | None] = dict.fromkeys(ids, (-5.0, 7))
    silent = dict.fromkeys(known)
    found = []
    for name, table in (("known", known), ("silent", silent)):
        stored = store_logps(tmp_path / name, table)
        context = asked(tmp_path, unit, SelectSettings(), InfiFpo(), source_logps__one=stored)
        candidates = list_candidates(unit, DpoSettings(save_steps=2), SelectSettings())
        found.append(rank_held_out(context, candidates))
    assert all(map(math.isfinite, found[0][0].losses))
    assert found[0][0].losses != found[1][0].losses
    assert found[0][0].margins == found[1][0].margins  # to the reference, whoever the sources are


def test_without_held_out_pairs_the_later_state_is_taken_and_it_is_said(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4], rows=0)
    counts = select(asked(tmp_path, unit, SelectSettings()))
    assert counts["step"] == 5
    assert "No held-out pairs" in counts["reason"]


def test_a_broken_state_is_named_and_not_chosen(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    model = AutoModelForCausalLM.from_pretrained(unit / "checkpoints" / "4")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    model.save_pretrained(unit / "checkpoints" / "4")
    with pytest.raises(TrainingError, match="6 held-out pairs is not finite"):
        select(asked(tmp_path, unit, SelectSettings()))


def test_held_out_rows_are_read_with_the_settings_of_the_training(tmp_path: Path) -> None:
    unit = trained(tmp_path / "unit", 5, [2, 4])
    context = asked(tmp_path, unit, SelectSettings())
    short = context.settings["train"].model_copy(update={"max_length": 17})
    context = UnitContext(**{**vars(context), "settings": {**context.settings, "train": short}})
    found = rank_held_out(context, list_candidates(unit, short, SelectSettings()))
    assert 0 < len(found[0].margins) < 6
