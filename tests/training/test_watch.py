"""Looking at a model while it trains: what is written, and that nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_tiny import (
    bytes_of,
    context_of,
    make_model,
    pairs,
    random_examples,
    save_base,
    save_build,
)

from fusechat.files import read_jsonl
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.simpo import Simpo
from fusechat.progress import Progress
from fusechat.stages.train import train_dpo, train_sft
from fusechat.stages.train_settings import DpoSettings, SftSettings, WatchSettings
from fusechat.training.engine import PaddedEngine
from fusechat.training.ranks import Ranks
from fusechat.training.watch_answers import Answers, as_it_was

STEPS: dict[str, Any] = {
    "global_batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 1, "save_steps": 3,
    "num_train_epochs": 2, "held_out": 0.2, "watch": {"prompts": 3, "max_new_tokens": 8},
}  # fmt: skip
CPU = Ranks(torch.device("cpu"))


class Notes(Progress):
    """Keeps what was noted."""

    def __init__(self) -> None:
        super().__init__("")
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    save_base(folder / "base")
    save_build(folder / "build", dpo=pairs(40))
    return folder


def _train(place: Path, unit: str, **settings: Any) -> tuple[dict[str, Any], Notes]:
    notes = Notes()
    wanted = DpoSettings.model_validate({**STEPS, **settings})
    context = context_of(place / unit, place / "base", place / "build", wanted)
    return train_dpo(replace(context, progress=notes)), notes


@pytest.fixture(scope="module")
def watched(place: Path) -> Path:
    counts, _ = _train(place, "watched")
    assert (counts["rows"], counts["held_out"], counts["steps"]) == (32, 8, 8)
    return place / "watched"


def _looks(unit: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(unit / "watch.jsonl"))


def test_there_is_a_look_before_training_at_each_checkpoint_and_at_the_end(watched: Path) -> None:
    assert [look["step"] for look in _looks(watched)] == [0, 3, 6, 8]
    assert [look["epoch"] for look in _looks(watched)] == [0.0, 0.75, 1.5, 2.0]


def test_a_look_says_what_it_should(watched: Path) -> None:
    last = _looks(watched)[-1]
    sides = {f"held_out_{name}_{side}" for side in ("chosen", "rejected")
             for name in ("logps", "token_logps", "lengths", "rewards")}  # fmt: skip
    own = {f"held_out_{name}" for name in (
        "rows", "loss", "margins", "accuracies", "normalized_margins", "normalized_accuracies",
    )}  # fmt: skip
    answers = {"answers", "lengths_answer", "length_ratio", "log_length_ratio_error", "cut_answers"}
    assert set(last) == sides | own | answers | {"step", "epoch", "kl", "kl_tokens", "kl_error"}
    assert (last["held_out_rows"], last["answers"]) == (8, 6)
    assert last["lengths_answer"] <= 8


def test_before_training_nothing_has_moved_and_no_pair_is_said_to_be_ranked(watched: Path) -> None:
    first = _looks(watched)[0]
    assert first["held_out_loss"] == pytest.approx(0.6931471805599453, rel=1e-12)
    moved = ("held_out_margins", "held_out_normalized_margins", "kl", "kl_error")
    assert [first[name] for name in moved] == [0.0] * 4
    assert first["length_ratio"] == 1.0
    assert "held_out_accuracies" not in first


def test_held_out_pairs_are_learnt_from_the_others(watched: Path) -> None:
    first, *_, last = _looks(watched)
    assert last["held_out_loss"] < first["held_out_loss"] - 0.2
    assert last["held_out_accuracies"] > 0.8
    assert last["kl"] > 0.01
    assert last["held_out_normalized_margins"] == pytest.approx(last["held_out_margins"] / 10)


@pytest.mark.parametrize("engine", ["packed", "padded"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_weights_and_the_metrics_are_those_of_a_run_that_nobody_watches(
    engine: str, checkpointing: bool, place: Path
) -> None:
    same = {"engine": engine, "gradient_checkpointing": checkpointing, "held_out": 0.2}
    name = f"{engine}-{checkpointing}"
    _train(place, f"{name}-watched", **same, watch={"steps": 1, "prompts": 2, "max_new_tokens": 4})
    _train(place, f"{name}-alone", **same, watch={"steps": 10**6, "prompts": 0})
    seen, alone = (bytes_of(place / f"{name}-{how}") for how in ("watched", "alone"))
    assert len(_looks(place / f"{name}-watched")) == 9
    assert len(_looks(place / f"{name}-alone")) == 2
    for file in ("model/model.safetensors", "metrics.jsonl", "checkpoints/6/optimizer.safetensors"):
        assert seen[file] == alone[file], file


def test_without_held_out_rows_nothing_is_looked_at(place: Path) -> None:
    counts, notes = _train(place, "none", held_out=0.0)
    assert "held_out" not in counts
    assert not (place / "none" / "watch.jsonl").exists()
    _, notes = _train(place, "few", held_out=0.05)
    assert any("no rows are held out: 0.05 of 40 rows" in note for note in notes.said)


def test_without_prompts_only_held_out_rows_are_looked_at(place: Path) -> None:
    _train(place, "mute", watch={"prompts": 0})
    names = {name for look in _looks(place / "mute") for name in look}
    assert "held_out_loss" in names
    assert not names & {"answers", "kl", "length_ratio"}


def test_a_loss_without_a_reference_is_held_against_the_start_all_the_same(place: Path) -> None:
    _train(place, "simpo", loss={"use": "simpo"})
    first, *_, last = _looks(place / "simpo")
    assert first["held_out_normalized_margins"] == 0.0
    assert "held_out_normalized_accuracies" not in first
    assert first["held_out_accuracies"] == pytest.approx(
        sum(_right(place / "simpo")) / first["held_out_rows"]
    )
    assert last["held_out_normalized_margins"] > 0.0


def _right(unit: Path) -> list[bool]:
    """Whether the first model finds each held-out pair's chosen side likelier per token."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from fusechat.records import Pair
    from fusechat.stages.held_out import read_held_out
    from fusechat.stages.train_rows import encode_rows, keep

    logps = load_file(unit / "watch" / "start.safetensors")["logps"].tolist()
    tokenizer = AutoTokenizer.from_pretrained(unit / "model")
    rows = keep(encode_rows(tokenizer, read_held_out(unit, Pair), 2048), print)
    tokens = [[text.length for text in row.texts] for row in rows]
    return [c / n > r / m for (c, r), (n, m) in zip(logps, tokens, strict=True)]


def test_sft_can_be_watched_too(place: Path) -> None:
    from training_tiny import demonstrations

    save_build(place / "sft-build", demonstrations(30))
    settings = SftSettings.model_validate({**STEPS, "held_out": 0.2})
    train_sft(context_of(place / "sft", place / "base", place / "sft-build", settings))
    first, *_, last = _looks(place / "sft")
    assert last["held_out_loss"] < first["held_out_loss"]
    nats, tokens = last["held_out_logps_response"], last["held_out_lengths_response"]
    assert last["held_out_loss"] == pytest.approx(-nats / tokens)
    assert first["answers"] == 3


def test_a_run_that_goes_on_without_what_was_kept_says_so_and_trains_on(place: Path) -> None:
    import shutil

    _train(place, "lost")
    unit = place / "lost"
    shutil.rmtree(unit / "watch")
    before = bytes_of(unit)["model/model.safetensors"]
    shutil.rmtree(unit / "model")
    _, notes = _train(place, "lost")
    assert any("nothing was kept of the model before training" in note for note in notes.said)
    assert bytes_of(unit)["model/model.safetensors"] == before
    assert [look["step"] for look in _looks(unit)] == [0, 3, 6]


def test_a_drifting_run_is_warned_of_once_and_the_counts_say_it(place: Path) -> None:
    counts, notes = _train(
        place, "wild", learning_rate=0.2, num_train_epochs=8, save_steps=2, warmup_steps=0
    )
    kinds = [warning["kind"] for warning in counts["warnings"]]
    said = [note for note in notes.said if note.startswith("warning: ")]
    assert "kl_is_large" in kinds
    assert len(said) == len(kinds) == len(set(kinds))
    assert all("Try: " in note for note in said)
    assert all(warning["advice"] for warning in counts["warnings"])


CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import train_forked
from fusechat.stages.train_settings import DpoSettings
train_forked.SETTINGS["dpo"] = DpoSettings(
    **train_forked.STEPS, held_out=0.3, watch={"prompts": 2, "max_new_tokens": 4, "steps": 1}
)
from pathlib import Path
import json, torch
torch.set_num_threads(1)
place = Path(sys.argv[2])
train_forked.import_all(place / "base")
runs = json.loads(sys.argv[3])
print(json.dumps([train_forked.forked(place, "dpo", unit, env) for unit, env in runs]))
"""


def test_a_watched_run_that_is_killed_writes_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_build(tmp_path / "build", dpo=pairs(20))
    points = [
        "train.held_out:1", "train.watch_start.written:1", "train.watched:1", "train.watched:3",
        "train.checkpoint:2",
    ]  # fmt: skip
    runs = [("whole", {}), *(run for point in points
            for run in ((point, {"FUSECHAT_KILL_AT": point}), (point, {})))]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(Path(__file__).parent), str(tmp_path), json.dumps(runs)],
        stdout=subprocess.PIPE, text=True, timeout=280, start_new_session=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert json.loads(done.stdout) == [0, *[-9, 0] * len(points)]
    whole = bytes_of(tmp_path / "whole")
    assert {"watch.jsonl", "watch/start.safetensors"} < set(whole)
    for point in points:
        assert bytes_of(tmp_path / point) == whole, point


def test_watching_is_speed_and_the_share_held_out_is_not() -> None:
    from fusechat.settings import settings_key

    plain = settings_key(DpoSettings())
    assert settings_key(DpoSettings(watch=WatchSettings(prompts=3))) == plain
    assert settings_key(DpoSettings(held_out=0.1)) != plain


def test_drawn_answers_follow_the_models_own_distribution_and_leave_it_as_it_was() -> None:
    model = make_model(seed=3, initializer_range=0.6)
    model.generation_config.repetition_penalty = 1.9
    model.train()
    config, state = model.generation_config, torch.get_rng_state()
    engine = PaddedEngine(model, Simpo(), CPU)
    prompt = [1, 2, 20, 21, 3]
    drawn = Answers(1, (4,)).drawn(engine, CPU, [prompt] * 4000, seed=5)
    assert model.training
    assert model.generation_config is config
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        model.eval()
        shares = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([ids[0] for ids in drawn]), minlength=len(shares))
    # Pearson's statistic over 66 tokens has mean 65 and standard deviation 11.4.
    assert float(((counts - 4000 * shares) ** 2 / (4000 * shares)).sum()) < 130


def test_prompts_of_other_lengths_beside_it_change_no_answer_and_ends_are_kept() -> None:
    model = make_model(seed=1)
    engine = PaddedEngine(model, LengthNormalizedDpo(), CPU)
    prompts = [row.texts[0].ids.tolist() for row in random_examples(5, 1)]
    answers = Answers(12, tuple(range(20)))
    together = answers.drawn(engine, CPU, prompts, seed=0)
    for answer in together:
        ended = [place for place, token in enumerate(answer) if token < 20]
        assert ended in ([], [len(answer) - 1])
        assert answers.cut(answer) == (not ended)
        assert 0 < len(answer) <= 12
    assert answers.drawn(engine, CPU, prompts, seed=0) == together
    assert answers.drawn(engine, CPU, prompts, seed=1) != together


def test_a_prompt_that_fills_the_context_has_no_answer() -> None:
    model = make_model(max_position_embeddings=10)
    engine = PaddedEngine(model, LengthNormalizedDpo(), CPU)
    assert Answers(4, (4,)).drawn(engine, CPU, [list(range(6, 16))], seed=0) == [[]]
    (answer,) = Answers(4, (99,)).drawn(engine, CPU, [list(range(6, 14))], seed=0)
    assert len(answer) == 2


def test_an_error_inside_a_look_leaves_the_model_as_it_was() -> None:
    model = make_model()
    model.model.layers[0].train()
    state = torch.get_rng_state()
    seen: list[bool] = []

    def fail() -> None:
        with as_it_was(model, CPU.device, seed=1):
            torch.rand(3)
            seen.append(model.model.layers[0].training)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert seen == [False]
    assert model.model.layers[0].training
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
