"""A packed row is the texts one by one: same logits, same gradients."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tiny import (
    FAMILIES,
    Family,
    gradients,
    layouts,
    network,
    packed_logits,
    plain_logits,
    row,
    spread,
)

from fusechat.packed import _kernels
from fusechat.packed.attention import BUCKETS, NAME, Plan, no_mask, packed
from fusechat.packed.layout import Segment, positions, sees


def ids(count: int, seed: int = 0) -> list[int]:
    made = torch.Generator().manual_seed(1000 * seed + count)
    return torch.randint(3, 61, (count,), generator=made).tolist()


MIXED: list[Family] = [
    (ids(9), [ids(5, 1), ids(1, 2), ids(12, 3)]),
    (ids(1), [ids(3, 4), ids(3, 5)]),
    ([], [ids(17)]),
    (ids(20), [ids(2, 6)]),
    (ids(1, 7), []),
    (ids(2), [ids(11, n) for n in range(8, 13)]),
]


def furthest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    assert len(one) == len(other)
    pairs = [(a.detach(), b.detach()) for a, b in zip(one, other, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in pairs)


def compare(made: Any, families: list[Family]) -> tuple[float, float]:
    plain = plain_logits(made, families)
    wanted = gradients(made, plain)
    own = spread(packed_logits(made, *row(families)), families)
    return furthest(own, plain), furthest(gradients(made, own), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_the_texts_one_by_one(family: str) -> None:
    logits, slopes = compare(network(family), MIXED)
    assert logits < 1e-10
    assert slopes < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_models_as_transformers_makes_them_agree_as_far_as_their_float32_parts_allow(
    family: str,
) -> None:
    logits, slopes = compare(network(family, exact=False), MIXED)
    assert logits < 1e-6
    assert slopes < 1e-6


@pytest.mark.parametrize("family", ["llama", "gemma2, sliding", "mistral, sliding"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_layers_that_are_checkpointed_find_the_row_again_in_the_backward_pass(
    family: str, reentrant: bool
) -> None:
    made = network(family)
    wanted = gradients(made, plain_logits(made, MIXED))
    made.gradient_checkpointing_enable({"use_reentrant": reentrant})
    made.train()
    first = packed_logits(made, *row(MIXED))
    other = packed_logits(made, *row(MIXED[:2]))  # another row goes through before the backward
    assert made.config._attn_implementation != NAME
    found = gradients(made, spread(first, MIXED))
    assert furthest(found, wanted) < 1e-10
    found = gradients(made, spread(other, MIXED[:2]))
    made.gradient_checkpointing_disable()
    assert furthest(found, gradients(made, plain_logits(made, MIXED[:2]))) < 1e-10


def test_layers_are_recomputed_rightly_in_another_thread() -> None:
    made = network("llama")
    wanted = gradients(made, plain_logits(made, MIXED))
    made.gradient_checkpointing_enable({"use_reentrant": False})
    made.train()
    logits = packed_logits(made, *row(MIXED))
    found: list[list[torch.Tensor]] = []
    thread = threading.Thread(target=lambda: found.append(gradients(made, spread(logits, MIXED))))
    thread.start()
    thread.join()
    assert furthest(found[0], wanted) < 1e-10


def test_after_a_row_the_model_is_as_it_was() -> None:
    made = network("llama")
    before = made.config._attn_implementation
    one = plain_logits(made, MIXED)
    with pytest.raises(ZeroDivisionError), packed(made, [Segment(0, 3)]):
        raise ZeroDivisionError
    assert made.config._attn_implementation == before
    assert all(torch.equal(a, b) for a, b in zip(one, plain_logits(made, MIXED), strict=True))


def test_two_runs_give_the_same_bytes() -> None:
    made = network("gemma2", exact=False).float()
    torch.use_deterministic_algorithms(True)
    try:
        runs = [gradients(made, spread(packed_logits(made, *row(MIXED)), MIXED)) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_text_does_not_see_its_neighbours() -> None:
    made = network("qwen2")
    changed: list[Family] = [([*ids(9)[:-1], 3], MIXED[0][1]), *MIXED[1:]]
    one = spread(packed_logits(made, *row(MIXED)), MIXED)
    other = spread(packed_logits(made, *row(changed)), changed)
    same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    assert same == [False] * 3 + [True] * 10


def test_a_text_has_the_same_logits_alone_and_in_a_row_of_others() -> None:
    made = network("llama", exact=False).float()
    alone = packed_logits(made, *row([MIXED[1]]))
    together = packed_logits(made, *row(MIXED))[27:34]
    assert torch.allclose(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["qwen3", "gemma2", "qwen2, sliding"])
def test_mixed_precision_is_as_near_to_the_texts_one_by_one_as_its_rounding(
    family: str, dtype: torch.dtype
) -> None:
    made = network(family, exact=False).float()
    wanted = gradients(made, plain_logits(made, MIXED))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        own = spread(packed_logits(made, *row(MIXED)), MIXED)
    found = gradients(made, [one.double() for one in own])
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(found, wanted, strict=True)]
    near = [torch.cosine_similarity(a, b, 0) for a, b in pairs]
    assert min(near) > (0.98 if dtype == torch.bfloat16 else 0.999999)


def attention_by_definition(of: list[Any], segments: Any, cap: Any, window: Any) -> Any:
    """Every token against every token, with the mask of `layout.sees`."""
    q, k, v = of
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    logits = q @ k.transpose(2, 3) * 0.3
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    seen = torch.from_numpy(sees(segments, window))
    return (logits.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(1, 2)


@settings(deadline=None)
@given(
    layouts(), st.none() | st.integers(1, 12), st.sampled_from([None, 1.5]),
    st.sampled_from([(1, 1), (4, 2), (6, 1), (5, 5)]), st.booleans(),
)  # fmt: skip
def test_any_layout_has_the_attention_of_its_definition(
    segments: Any, window: Any, cap: Any, heads: tuple[int, int], plain: bool
) -> None:
    from fusechat.packed import _buckets

    made = torch.Generator().manual_seed(0)
    tokens = segments[-1].stop
    of = [
        torch.randn(1, tokens, n, 4, generator=made, dtype=torch.float64).transpose(1, 2)
        .requires_grad_()
        for n in (heads[0], heads[1], heads[1])
    ]  # fmt: skip
    plan = Plan(tuple(segments), BUCKETS, {})
    wanted = attention_by_definition(of, segments, cap, window)
    if plain and cap is None:
        cap = 1e9  # the kernel written out in torch, with a soft-cap that bends nothing
        assert isinstance(_kernels.choose(plan, of[0], of[2], 0.3, cap), _kernels.Plain)
    out = _buckets.attend(plan, of, 0.3, cap, window)
    weights = torch.randn(out.shape, generator=made, dtype=torch.float64)
    slopes = [torch.autograd.grad((x * weights).sum(), of) for x in (out, wanted)]
    assert furthest([out], [wanted]) < 1e-10
    for a, b in zip(*slopes, strict=True):
        assert (a - b).abs().max() < 1e-10


def test_a_row_of_another_length_than_was_said_is_refused() -> None:
    made = network("llama")
    with packed(made, [Segment(0, 3)]), pytest.raises(ValueError, match="row of 3 tokens"):
        made(input_ids=torch.tensor([[5, 6]]), attention_mask=no_mask("cpu"), use_cache=False)


def test_the_mask_of_a_packed_row_is_of_no_use_to_other_attention() -> None:
    made = network("llama", exact=False)
    with pytest.raises(RuntimeError):
        made(input_ids=torch.tensor([[5, 6, 7]]), attention_mask=no_mask("cpu"), use_cache=False)


def test_positions_alone_would_hide_the_prompt_from_the_second_response() -> None:
    """What a row gets without this attention: transformers takes a second response for a text."""
    made = network("llama", exact=False)
    tokens, segments = row([MIXED[0]])
    places = torch.from_numpy(positions(segments))[None]
    wrong = made(input_ids=torch.tensor([tokens]), position_ids=places, use_cache=False).logits[0]
    right = plain_logits(made, [MIXED[0]])
    assert furthest([spread(wrong, [MIXED[0]])[1]], [right[1]]) > 0.1
