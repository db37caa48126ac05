"""Adapters are trained over a frozen model, kept beside it, and merged into it in the end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_work import train_unit
from safetensors.torch import load_file
from training_tiny import bytes_of, make_model, pairs, save_base, save_build

from fusechat.errors import TrainingError
from fusechat.files import read_jsonl, write_json
from fusechat.stages.train_settings import LoraSettings
from fusechat.training.adapters import add_adapters, load_adapters, merged_weights
from fusechat.training.models import load_model
from fusechat.training.ranks import Ranks

CPU = torch.device("cpu")
LORA = {"r": 4, "lora_dropout": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole` was trained with adapters (dropout drawn in each step), `broken` stopped midway."""
    place = tmp_path_factory.mktemp("adapters")
    save_base(place / "base", tie_word_embeddings=True)
    save_base(place / "other", seed=1)
    save_build(place / "build", dpo=pairs(16))
    train_unit(place, "whole", lora=LORA)
    train_unit(place, "broken", 3, lora=LORA)
    return place


def _ids() -> torch.Tensor:
    return torch.arange(6, 40).unsqueeze(0)


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=_ids()).logits
    return found


def test_stopped_training_goes_on_to_the_same_bytes(folder: Path) -> None:
    unit = folder / "resumed"
    shutil.copytree(folder / "broken", unit)
    train_unit(folder, "resumed", lora=LORA)
    assert bytes_of(unit) == bytes_of(folder / "whole")


def test_training_begins_at_its_reference_and_learns(folder: Path) -> None:
    losses = [line["loss"] for line in read_jsonl(folder / "whole" / "metrics.jsonl")]
    assert losses[-1] < losses[0] == pytest.approx(0.6931, abs=0.05)


def test_the_merged_model_computes_what_peft_does_with_the_kept_adapter(folder: Path) -> None:
    from peft import PeftModel

    whole = folder / "whole"
    wrapped = PeftModel.from_pretrained(load_model(folder / "base", CPU), whole / "adapter").eval()
    merged, base = (load_model(place, CPU) for place in (whole / "model", folder / "base"))
    torch.testing.assert_close(_logits(merged), _logits(wrapped), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(_logits(merged), _logits(base), atol=1e-3)
    assert load_file(whole / "model" / "model.safetensors").keys() == (
        load_file(folder / "base" / "model.safetensors").keys()
    )


def test_every_checkpoint_is_a_model_and_keeps_its_adapter(folder: Path) -> None:
    newest = folder / "whole" / "checkpoints" / "6"
    assert (newest / "adapter" / "adapter_model.safetensors").exists()
    model = load_model(folder / "whole" / "model", CPU)
    assert torch.equal(_logits(load_model(newest, CPU)), _logits(model))


def test_adapters_of_another_model_are_refused(folder: Path) -> None:
    model = add_adapters(load_model(folder / "other", CPU), LoraSettings(**LORA), 0)
    with pytest.raises(TrainingError, match=r"over another model than .*other.*remove"):
        load_adapters(model, folder / "whole" / "checkpoints" / "6", folder / "other")


def test_an_adapter_is_no_model_to_start_from(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "some/model"})
    with pytest.raises(TrainingError, match=r"no model but an adapter of some/model\. Merge"):
        load_model(tmp_path, CPU)


def test_modules_that_are_not_there_or_not_linear_are_named() -> None:
    with pytest.raises(TrainingError, match=r"lora\.target_modules: .*no_proj"):
        add_adapters(make_model(), LoraSettings(target_modules=("no_proj",)), 0)
    with pytest.raises(TrainingError, match="names a Embedding"):
        add_adapters(make_model(), LoraSettings(target_modules=("embed_tokens",)), 0)


def test_untrained_adapters_change_no_weight_and_only_they_are_trained() -> None:
    plain = make_model()
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    model = add_adapters(plain, LoraSettings(r=2), 0)
    merged = merged_weights(model, Ranks(CPU))
    assert merged.keys() == before.keys()
    assert all(torch.equal(merged[name], weight) for name, weight in before.items())
    trained = [p for p in model.parameters() if p.requires_grad]
    # Two layers of seven matrices, two adapter matrices each, in float32.
    assert len(trained) == 28
    assert {p.dtype for p in trained} == {torch.float32}


def test_gradient_checkpointing_gives_the_same_curve(folder: Path) -> None:
    train_unit(folder, "checkpointed", lora=LORA, gradient_checkpointing=True)
    one, two = (list(read_jsonl(folder / u / "metrics.jsonl")) for u in ("whole", "checkpointed"))
    for plain, again in zip(one, two, strict=True):
        assert again == pytest.approx(plain, rel=1e-5)
