"""Whether a unit fits a device: against tensors that really live, and the order of choices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from fusechat.packed.attention import BUCKETS
from fusechat.packed.head import TILE_BYTES, head_of
from fusechat.training.examples import Example, Text
from fusechat.training.memory import (
    BUDGETS,
    DEVICES,
    FULL_SPEED,
    GIB,
    How,
    choose,
    device_bytes,
    needs,
    room_of,
)
from fusechat.training.memory_shapes import PUBLISHED, Shape, shape_of
from fusechat.training.packed_model import PackedModel, to_device
from fusechat.training.packing import lay_out

LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN, GEMMA = PUBLISHED.values()
ON_CPU = How(mixed=False, device="cpu")


class _Alive(TorchDispatchMode):
    """The most bytes of tensors that lived at one time while it was open, older ones left out."""

    def __init__(self, older: list[torch.Tensor]) -> None:
        super().__init__()
        self.older = {tensor.untyped_storage()._cdata for tensor in older}
        self.live: dict[int, tuple[Any, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.live = {name: one for name, one in self.live.items() if not one[0].expired()}
        tree_map_only(torch.Tensor, self._see, out)
        self.most = max(self.most, sum(size for _, size in self.live.values()))
        return out

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.older:
            self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())


def _model(family: str, checkpointing: bool) -> Any:
    config = getattr(transformers, f"{family}Config")(
        vocab_size=512, hidden_size=128, intermediate_size=352, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=2, head_dim=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = getattr(transformers, f"{family}ForCausalLM")(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _peak(model: Any, mixed: bool, tokens: int) -> int:
    """Bytes at the peak of a forward and backward pass, beside weights and gradients."""
    autocast = (
        (lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False)) if mixed else None
    )
    packed = PackedModel(model, head_of(model, halved=mixed), BUCKETS, autocast)  # type: ignore[arg-type]
    draw = np.random.default_rng(0)
    rows = [
        Example(str(n), (Text(draw.integers(3, 512, 64).astype(np.int32), 1),), 1.0)
        for n in range(tokens // 64)
    ]
    made = to_device(lay_out(rows, [0] * len(rows)), torch.device("cpu"))
    packed(made).sum().backward()
    alive = _Alive([t for p in model.parameters() for t in (p, p.grad)])
    with alive:
        packed(made).sum().backward()
    return alive.most


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Gemma2"])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_the_peak_of_a_step_is_what_is_predicted(
    family: str, mixed: bool, checkpointing: bool
) -> None:
    model = _model(family, checkpointing)
    shape = shape_of(model.config.to_dict())
    assert shape is not None
    predicted = needs(shape, How(mixed, checkpointing, device="cpu"), 512)
    found = predicted.kept + predicted.work
    assert _peak(model, mixed, 512) == pytest.approx(found, rel=0.15)


def test_full_training_takes_16_bytes_a_parameter_and_adapters_take_4() -> None:
    full, lora = needs(LLAMA_8B, How(), 2048), needs(LLAMA_8B, How(lora=16), 2048)
    assert full.states == 16 * LLAMA_8B.parameters
    adapters = LLAMA_8B.lora_parameters(16)
    assert lora.states == 4 * LLAMA_8B.parameters + 16 * adapters
    assert adapters == 41_943_040  # 32 layers x 16 x (4 x 4096 + ... ): PEFT's number for r = 16


def test_shards_divide_the_states_and_gather_layers() -> None:
    whole, shared = needs(LLAMA_8B, How(), 2048), needs(LLAMA_8B, How(shards=8), 2048)
    assert shared.weights == whole.weights / 8
    assert shared.moments == whole.moments / 8
    assert (whole.gathered, shared.gathered > 4 * 2 * LLAMA_8B.head) == (0, True)
    assert shared.kept == whole.kept - LLAMA_8B.copied_weights(True)  # gathered as bfloat16
    assert shared.work <= whole.work


@given(
    st.sampled_from([*PUBLISHED.values()]), st.booleans(), st.booleans(),
    st.integers(256, 20_000), st.integers(1, 20_000), st.sampled_from(["cpu", "cuda"]),
)  # fmt: skip
def test_more_tokens_and_no_checkpointing_take_more(
    shape: Shape, mixed: bool, checkpointing: bool, tokens: int, more: int, device: str
) -> None:
    how = How(mixed, checkpointing, device=device)
    few, many = needs(shape, how, tokens), needs(shape, how, tokens + more)
    assert few.total < many.total
    assert few.states == many.states
    if not checkpointing:
        assert needs(shape, replace(how, checkpointing=True), tokens).total < few.total


@given(
    st.sampled_from([*PUBLISHED.values()]), st.floats(1e10, 5e11), st.integers(16, 5000),
    st.sampled_from([None, True, False]), st.sampled_from([None, 3000]),
)  # fmt: skip
def test_what_is_chosen_fits_or_says_what_would(
    shape: Shape, room: float, longest: int, asked: bool | None, tokens: int | None
) -> None:
    found = choose(shape, How(), room, longest, checkpointing=asked, tokens=tokens)
    assert found.fits == (found.needs.total <= room)
    assert found.fits == (not found.options)
    assert asked in (None, found.how.checkpointing)
    assert tokens in (None, found.tokens)
    assert found.how.lora is None
    assert found.how.shards == 1


def test_checkpointing_is_taken_only_where_full_speed_does_not_fit_without() -> None:
    def total(checkpointing: bool, tokens: int) -> float:
        return needs(LLAMA_3B, How(checkpointing=checkpointing), tokens).total

    largest, least = BUDGETS[0], FULL_SPEED
    rooms = [total(False, largest), total(False, least), total(False, least) - 1]
    rooms += [total(True, 1000), total(True, 1000) - 1]
    found = [choose(LLAMA_3B, How(), room, 1000) for room in rooms]
    chosen = [(one.fits, one.how.checkpointing, one.tokens) for one in found]
    assert chosen[:2] == [(True, False, largest), (True, False, least)]
    assert chosen[2] == (True, True, largest)
    assert chosen[3:] == [(True, True, 1000), (False, True, 1000)]


def test_a_user_who_forbids_checkpointing_gets_short_micro_batches_instead() -> None:
    room = needs(LLAMA_3B, How(), 2048).total
    found = choose(LLAMA_3B, How(), room, 600, checkpointing=False)
    assert (found.fits, found.tokens, found.how.checkpointing) == (True, 2048, False)
    tight = choose(LLAMA_3B, How(), room / 1.2, 2048, checkpointing=False)
    assert not tight.fits
    assert tight.options[0] == "gradient_checkpointing: auto fits"


def test_an_8b_model_on_one_h100_is_told_of_ranks_and_adapters() -> None:
    found = choose(LLAMA_8B, How(), room_of(device_bytes("h100")), 4096)
    assert not found.fits
    ranks, lora, device = found.options
    assert ranks == "4 ranks with sharding: fsdp2 fit"
    assert lora.startswith("lora: {r: 16} fits (")
    assert device.startswith("a device of 13")
    shared = choose(LLAMA_8B, How(shards=4), room_of(device_bytes("h100")), 4096)
    assert shared.fits


def test_devices_are_told_by_name_or_size() -> None:
    assert device_bytes("H100") == device_bytes("NVIDIA H100") == DEVICES["h100"] * GIB
    assert device_bytes("24GB") == 24 * GIB
    with pytest.raises(ValueError, match=r"no GPU 'hal9000' .*h100.*'80GB'"):
        device_bytes("hal9000")


def test_models_that_are_not_counted_say_so() -> None:
    base: dict[str, Any] = {
        "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 32,
    }  # fmt: skip
    assert shape_of({"d_model": 512}) is None
    other = shape_of({**base, "model_type": "olmo2"})
    assert other is not None
    assert "olmo2" in other.note
    experts = shape_of({**base, "model_type": "mixtral", "num_local_experts": 8})
    assert experts is not None
    assert "experts" in choose(experts, ON_CPU, 1e12, 10).notes[0]
    nested = shape_of({"model_type": "gemma3", "text_config": {**base, "model_type": "gemma2"}})
    assert nested is not None
    assert (nested.norms, nested.width, nested.tied) == (4, 256, True)


def test_the_head_is_planned_with_the_tile_that_it_has() -> None:
    small = needs(LLAMA_1B, How(mixed=False, checkpointing=True), 64).work
    large = needs(LLAMA_1B, How(mixed=False, checkpointing=True), 8192).work
    assert small < 8 * 64 * LLAMA_1B.vocabulary + 4 * LLAMA_1B.head + 1e7
    assert large >= TILE_BYTES["cuda"] + 4 * LLAMA_1B.head
