"""The output layer in tiles against the plain log-softmax of all logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from fusechat.packed.head import Head, head_of, token_logps

HEADS = {
    "plain": Head(), "capped": Head(cap=2.0), "scaled": Head(scale=0.25),
    "both": Head(scale=3.0, cap=4.0),
}  # fmt: skip
TOKENS, WIDTH, WORDS = 11, 5, 17
TILE = 2 * WORDS * 8  # bytes of one token's logits and their gradient, in float64


def _inputs(bias: bool = True) -> list[Any]:
    draw = torch.Generator().manual_seed(3)

    def made(*shape: int) -> torch.Tensor:
        out = torch.randn(*shape, generator=draw, dtype=torch.float64)
        return out.requires_grad_()

    targets = torch.randint(0, WORDS, (TOKENS,), generator=draw)
    return [made(TOKENS, WIDTH), made(WORDS, WIDTH), targets, made(WORDS) if bias else None]


def _plain(head: Head, inputs: list[Any]) -> torch.Tensor:
    hidden, weight, targets, bias = inputs
    logits = hidden @ weight.T * head.scale + (0 if bias is None else bias * head.scale)
    if head.cap is not None:
        logits = head.cap * torch.tanh(logits / head.cap)
    out: torch.Tensor = logits.log_softmax(-1)[torch.arange(len(targets)), targets]
    return out


def _with(head: Head, tokens: int, keep: int = 0) -> Head:
    return Head(head.scale, head.cap, tile_bytes=tokens * TILE, keep_bytes=keep)


@pytest.mark.parametrize("keep", [0, 1 << 20])
@pytest.mark.parametrize("tokens", [1, 4, 100])
@pytest.mark.parametrize("name", HEADS)
def test_values_and_gradients_are_those_of_all_logits_at_once(
    name: str, tokens: int, keep: int
) -> None:
    inputs = _inputs()
    hidden, weight, targets, bias = inputs
    found = token_logps(hidden, weight, targets, _with(HEADS[name], tokens, keep), bias)
    plain = _plain(HEADS[name], inputs)
    torch.testing.assert_close(found, plain, rtol=1e-13, atol=1e-13)
    slopes = torch.linspace(-2, 1, TOKENS, dtype=torch.float64)
    variables = [hidden, weight, bias]
    ours = torch.autograd.grad(found, variables, slopes)
    for one, other in zip(ours, torch.autograd.grad(plain, variables, slopes), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_the_slopes_of_the_values(name: str) -> None:
    hidden, weight, targets, bias = _inputs()
    head = _with(HEADS[name], 3)
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_logps(h, w, targets, head, b), (hidden, weight, bias)
    )


def test_the_logits_of_a_tile_and_no_more_are_in_memory_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, weight, targets, _ = _inputs()
    sizes: list[int] = []
    stock = torch.mm

    def watched(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        out = stock(one, other)
        sizes.append(out.shape[0] if out.shape[1] == WORDS else 0)
        return out

    monkeypatch.setattr(torch, "mm", watched)
    total = token_logps(hidden, weight, targets, _with(Head(), 4)).sum()
    assert sizes == [4, 4, 3]
    sizes.clear()
    torch.autograd.backward(total)
    assert max(sizes) == 4
    assert sorted(sizes)[-3:] == [3, 4, 4]  # projected again


def test_small_logits_are_kept_and_not_projected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets, _ = _inputs()
    calls: list[int] = []
    stock = torch.mm

    def watched(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        calls.append(other.shape[1])
        return stock(one, other)

    monkeypatch.setattr(torch, "mm", watched)
    torch.autograd.backward(token_logps(hidden, weight, targets, _with(Head(), 4, 1 << 20)).sum())
    assert calls.count(WORDS) == 3


def test_what_needs_no_gradient_costs_none() -> None:
    hidden, weight, targets, _ = _inputs(bias=False)
    frozen = weight.detach()
    found = token_logps(hidden, frozen, targets, Head())
    (slope,) = torch.autograd.grad(found.sum(), [hidden])
    (same,) = torch.autograd.grad(token_logps(hidden, weight, targets, Head()).sum(), [hidden])
    assert slope.equal(same)
    node = found.grad_fn
    assert node is not None
    assert node.needs_input_grad[:2] == (True, False)  # type: ignore[attr-defined]
    assert not token_logps(hidden.detach(), frozen, targets, Head()).requires_grad


def test_no_tokens_have_no_log_probabilities_and_gradients_of_zero() -> None:
    hidden, weight, _, _ = _inputs()
    none = token_logps(hidden[:0], weight, torch.zeros(0, dtype=torch.int64), Head())
    assert none.shape == (0,)
    (slope,) = torch.autograd.grad(none.sum(), [weight])
    assert not slope.any()


def test_logits_of_a_16_bit_model_are_not_rounded_to_16_bits() -> None:
    hidden, weight, targets, _ = _inputs(bias=False)
    halves = hidden.detach().bfloat16(), weight.detach().bfloat16()
    found = token_logps(*halves, targets, Head())
    assert found.dtype == torch.float32
    exact = token_logps(halves[0].double(), halves[1].double(), targets, Head())
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)


def test_gradients_of_16_bit_weights_are_summed_in_32_bits_over_tiles() -> None:
    # 300 tiles of one token, each of which adds less than half a last place of the sum.
    hidden = torch.ones(300, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    one_token = Head(tile_bytes=1, keep_bytes=0)
    found = token_logps(hidden, weight, torch.zeros(300, dtype=torch.int64), one_token)
    torch.autograd.backward(found.sum())
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == [150.0, -150.0]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (transformers.LlamaConfig, Head()),
        (transformers.Gemma2Config, Head(cap=30.0)),
        (transformers.CohereConfig, Head(scale=0.0625)),
        (transformers.GraniteConfig, Head(scale=0.5)),
    ],
)
def test_scale_and_cap_of_a_model_are_read_from_its_configuration(
    config: Any, wanted: Head
) -> None:
    more = {"logits_scaling": 2.0} if config is transformers.GraniteConfig else {}
    made = config(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, pad_token_id=0, **more,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(made).eval()
    head = head_of(model)
    assert head == wanted
    ids = torch.arange(6)[None]
    with torch.no_grad():
        states = model.get_decoder()(input_ids=ids).last_hidden_state[0]
        whole = model(input_ids=ids).logits[0].log_softmax(-1)
        layer = model.get_output_embeddings()
        found = token_logps(states, layer.weight, ids[0], head, layer.bias)
    torch.testing.assert_close(found, whole.gather(1, ids.T).squeeze(1), rtol=1e-5, atol=1e-5)


def test_an_output_layer_that_is_no_plain_one_is_not_guessed_at() -> None:
    class Odd(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 2

    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.lm_head = Odd(8, 20, bias=False)
    assert head_of(model) is None
