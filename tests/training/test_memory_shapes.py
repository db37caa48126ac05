"""Sizes that are counted from `config.json`, against real models and what autograd really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from fusechat.packed.attention import no_mask, packed
from fusechat.packed.layout import Segment
from fusechat.training.memory_shapes import PUBLISHED, Shape, shape_of

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2")
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 48, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _model(family: str, **changes: Any) -> Any:
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
    return getattr(transformers, f"{family}ForCausalLM")(config).train()


def _shape(model: Any) -> Shape:
    found = shape_of(model.config.to_dict())
    assert found is not None
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_the_model(family: str, tied: bool) -> None:
    model = _model(family, tie_word_embeddings=tied)
    shape = _shape(model)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n]
    assert shape.body == sum(parameter.numel() for parameter in matrices)
    assert shape.lora_parameters(4) == 4 * sum(sum(matrix.shape) for matrix in matrices)
    assert shape.note == ""


def test_published_shapes_have_the_published_numbers_of_parameters() -> None:
    billions = {name.split("/")[1]: shape.parameters for name, shape in PUBLISHED.items()}
    assert billions == {
        "Llama-3.2-1B-Instruct": 1_235_814_400,
        "Llama-3.2-3B-Instruct": 3_212_749_824,
        "Llama-3.1-8B-Instruct": 8_030_261_248,
        "Qwen2.5-7B-Instruct": 7_615_616_512,
        "gemma-2-9b-it": 9_241_705_984,
    }


def _kept(model: Any, tokens: int, mixed: bool) -> int:
    """Bytes of all tensors that a forward pass of the packed path keeps, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    held: list[torch.Tensor] = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    half = tokens // 2
    segments = [Segment(0, half), Segment(half, tokens)]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed, cache_enabled=False)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        decoder = model.get_decoder()
        with packed(decoder, segments):
            decoder(
                input_ids=torch.ones(1, tokens, dtype=torch.long),
                position_ids=torch.arange(half).repeat(2)[None],
                attention_mask=no_mask("cpu"), use_cache=False,
            )  # fmt: skip
    return sum(sizes.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_what_a_backward_pass_keeps_of_a_token_is_predicted(
    family: str, mixed: bool, checkpointing: bool
) -> None:
    model = _model(family)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = _shape(model)
    few, many = (_kept(model, tokens, mixed) for tokens in (64, 192))
    a_token = (many - few) / 128
    layer = shape.kept_by_checkpoint() if checkpointing else shape.kept_by_layer(mixed)
    predicted = shape.layers * layer + shape.kept_outside()
    assert a_token == pytest.approx(predicted, rel=0.15)
    if not checkpointing:  # outside of layers little is kept: the layers themselves are exact
        assert a_token == pytest.approx(predicted, rel=0.01)
        whole = few - 64 * a_token
        assert whole == pytest.approx(shape.copied_weights(mixed), rel=0.05, abs=2e4)
