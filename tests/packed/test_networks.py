"""Which models packed rows can go through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from packed_tiny import FAMILIES, SHAPE, network

from fusechat.packed.networks import Parts, agrees, known, refusal, window, windows


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_that_are_known_are_known(family: str) -> None:
    made = network(family, exact=False)
    parts = known(made)
    assert isinstance(parts, Parts)
    assert parts.decoder is made.model
    assert parts.weight is made.lm_head.weight
    assert (parts.scale, parts.bias, parts.tied) == (1.0, None, False)
    assert parts.cap == (30.0 if "gemma2" in family else None)
    assert agrees(made.model)


def test_a_tied_head_is_seen() -> None:
    parts = known(network("llama", tie_word_embeddings=True))
    assert isinstance(parts, Parts)
    assert parts.tied


def other(kind: str, **changes: Any) -> Any:
    config = transformers.AutoConfig.for_model(kind, **(SHAPE | changes))
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "scale"), [("cohere", 0.0625), ("granite", 0.25), ("olmo2", 1.0), ("phi3", 1.0)]
)
def test_a_decoder_of_another_type_is_taken_where_it_agrees(kind: str, scale: float) -> None:
    more = {"logits_scaling": 4.0} if kind == "granite" else {}
    parts = known(other(kind, **more))
    assert isinstance(parts, Parts)
    assert parts.scale == scale
    assert "agree" in parts.note


def test_a_model_whose_layers_look_across_tokens_is_not_taken() -> None:
    made = other("olmo2")
    stock = made.model.layers[0].forward

    def mixes(hidden: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return stock(hidden.cumsum(1), **kwargs)

    made.model.layers[0].forward = mixes
    assert "other hidden states" in str(known(made))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("mamba", "another kind: linear_attention"), ("bloom", "cannot be replaced")],
)
def test_a_model_whose_attention_is_another_takes_the_plain_path_with_a_reason(
    kind: str, reason: str
) -> None:
    shape = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "n_layer": 2, "n_head": 2}
    config = transformers.AutoConfig.for_model(kind, **shape)
    assert reason in str(known(transformers.AutoModelForCausalLM.from_config(config)))


def test_positions_that_depend_on_the_longest_text_are_a_reason() -> None:
    made = network(
        "llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    )
    assert "dynamic RoPE" in str(known(made))


def test_layers_of_another_kind_are_a_reason() -> None:
    made = network("qwen2, sliding")
    made.config.layer_types = ["full_attention", "chunked_attention"]
    assert refusal(made) == "it has layers of another kind: chunked_attention"


def test_windows_are_those_of_the_layers_that_slide() -> None:
    assert windows(network("qwen2, sliding")) == {None, 7}
    assert windows(network("mistral, sliding")) == {7}
    assert windows(network("mistral")) == {None}
    assert windows(network("llama")) == {None}
    assert window(network("gemma2, sliding")) == 7
    assert window(network("qwen2")) is None
