"""Two ranks, with whole or with shared weights, train as one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rank_work import train_unit
from safetensors.torch import load_file
from training_tiny import bytes_of, context_of, make_model, pairs, save_base, save_build

from fusechat.errors import TrainingError
from fusechat.files import read_jsonl
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.stages.train_settings import DpoSettings
from fusechat.training.launch import run_on_ranks
from fusechat.training.ranks import Ranks, find_ranks
from fusechat.training.sharding import check_sharding, gather


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Units of two ranks (`rank_work.all_units`) and of one: `one`, `one-lora`."""
    folder = tmp_path_factory.mktemp("ranks")
    save_base(folder / "base", tie_word_embeddings=True)
    save_build(folder / "build", dpo=pairs(17))
    train_unit(folder, "one")
    train_unit(folder, "one-lora", lora={"r": 4})
    told = run_on_ranks(
        "rank_work:all_units", str(folder), count=2, folder=folder, progress=quiet()
    )
    return folder, told


def _curve(folder: Path) -> list[dict[str, float]]:
    return list(read_jsonl(folder / "metrics.jsonl"))


def _assert_same_curve(folder: Path, unit: str, other: str) -> None:
    one, two = _curve(folder / unit), _curve(folder / other)
    assert len(one) == len(two) == 6
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("unit", ["none", "fsdp2", "padded"])
def test_two_ranks_give_the_loss_curve_and_the_weights_of_one(
    trained: tuple[Path, dict[str, Any]], unit: str
) -> None:
    folder, _ = trained
    _assert_same_curve(folder, "one", unit)
    one, two = (load_file(folder / u / "model" / "model.safetensors") for u in ("one", unit))
    assert one.keys() == two.keys()  # tied weights are there once
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-3, rtol=0)


def test_adapters_over_shared_weights_give_the_curve_of_one_rank(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    _assert_same_curve(trained[0], "one-lora", "lora")


def test_shared_training_that_was_stopped_goes_on_to_the_same_bytes(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = trained
    assert bytes_of(folder / "broken") == bytes_of(folder / "fsdp2")


def test_a_run_of_two_ranks_goes_on_with_one(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    assert [path.name for path in (folder / "moved" / "checkpoints").iterdir()] == ["2"]
    train_unit(folder, "moved")
    _assert_same_curve(folder, "one", "moved")


def test_ranks_that_see_other_checkpoints_or_rows_are_told_so(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    said = trained[1]["disagreed"]
    assert "the ranks do not agree on the newest checkpoint (rank 0:" in said
    assert "rows" not in said


def test_summed_buckets_are_the_sums_of_every_gradient(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    assert trained[1]["bits"] == [True] * 5


def test_sharing_a_model_with_nobody_is_refused(tmp_path: Path) -> None:
    ranks = find_ranks(Where(device="cpu"))
    check_sharding("none", ranks)
    with pytest.raises(TrainingError, match=r"there is one\. Set ranks: 2"):
        check_sharding("fsdp2", ranks)


def test_what_is_gathered_of_tied_weights_stays_tied() -> None:
    model = make_model(tie_word_embeddings=True)
    found = gather(model.state_dict(keep_vars=True), Ranks(torch.device("cpu")))
    assert found["lm_head.weight"] is found["model.embed_tokens.weight"]
    assert found.keys() == model.state_dict().keys()


def test_a_finished_run_is_closed_without_training_again(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = trained
    before = bytes_of(folder / "none")
    (folder / "none" / "checkpoints").rename(folder / "gone")
    counts = train_unit(folder, "none")
    (folder / "gone").rename(folder / "none" / "checkpoints")
    assert counts["steps"] == 6
    assert bytes_of(folder / "none") == before


@pytest.mark.slow
def test_a_stage_runs_on_as_many_ranks_as_the_cluster_file_says(tmp_path: Path) -> None:
    from fusechat.stages.train_ranks import train_here_or_on_ranks

    save_base(tmp_path / "base")
    save_build(tmp_path / "build", dpo=pairs(9))
    settings = DpoSettings(global_batch_size=4, held_out=0)
    context = context_of(
        tmp_path / "unit", tmp_path / "base", tmp_path / "build", settings, ranks=2
    )
    counts = train_here_or_on_ranks(context, "train_dpo")
    assert (counts["rows"], counts["steps"]) == (9, 3)
    assert (tmp_path / "unit" / "model" / "config.json").exists()
