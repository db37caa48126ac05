"""The backends of GPUs as far as a CPU can tell: masks, what they gather, how they are chosen.

FlexAttention runs uncompiled and forward only on a CPU; for variable-length flash attention a
stand-in computes what its documentation says, with the signatures of several versions of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tiny import layouts, network
from test_attention import attention_by_definition, furthest

from fusechat.errors import TrainingError
from fusechat.packed import _buckets, _choosing, _flex, _varlen
from fusechat.packed._choosing import Shape, Trial, Verdict
from fusechat.packed.attention import BUCKETS, Plan, choose
from fusechat.packed.layout import Segment, sees

LONG = (
    Segment(0, 130), Segment(130, 400, (0, 130)), Segment(400, 401, (0, 130)), Segment(401, 700),
    Segment(700, 750, (401, 450)),
)  # fmt: skip


def random(
    heads: int, key_heads: int, tokens: int, dtype: torch.dtype = torch.float64
) -> list[Any]:
    made = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, tokens, n, 8, generator=made) for n in (heads, key_heads, key_heads)]
    return [one.to(dtype).transpose(1, 2).requires_grad_() for one in drawn]


def plan_of(segments: tuple[Segment, ...]) -> Plan:
    return Plan(segments, BUCKETS, {})


@pytest.mark.parametrize("window", [None, 1, 60, 200])
def test_tiles_and_mask_of_flex_are_the_definition(window: int | None) -> None:
    what, tokens = _flex.seen(plan_of(LONG), window, torch.device("cpu")), LONG[-1].stop
    mask = _flex.block_mask(plan_of(LONG), window, torch.device("cpu"))
    assert mask.shape == (1, 1, 768, 768)
    place = torch.arange(768)
    seen = _flex._mask_mod(what)(0, 0, place[:, None], place[None, :])
    assert np.array_equal(seen[:tokens, :tokens].numpy(), sees(LONG, window))
    assert torch.equal(seen[tokens:], torch.eye(768, dtype=torch.bool)[tokens:])
    tiles = seen.view(6, 128, 6, 128).permute(0, 2, 1, 3).flatten(2)
    assert torch.equal(mask.to_dense()[0, 0].bool(), tiles.any(2))
    whole = [row[:count].tolist() for row, count in zip(
        mask.full_kv_indices[0, 0], mask.full_kv_num_blocks[0, 0], strict=True)]  # fmt: skip
    assert whole == [row.nonzero().flatten().tolist() for row in tiles.all(2)]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("cap", "window"), [(None, None), (1.5, None), (None, 60), (1.5, 60)])
@pytest.mark.parametrize("heads", [(4, 2), (6, 2), (3, 3)])
def test_flex_is_attention_as_defined(
    cap: float | None, window: int | None, heads: tuple[int, int]
) -> None:
    of = [one.detach() for one in random(*heads, LONG[-1].stop, torch.float32)]
    out = _flex.attend(plan_of(LONG), of, 0.3, cap, window)
    assert furthest([out], [attention_by_definition(of, LONG, cap, window)]) < 1e-5


def flash(q: Any, k: Any, v: Any, cuts: Any, scale: float, window: tuple[int, int]) -> Any:
    """Flash attention's documented meaning: causality and windows aligned at the ends."""
    cu_q, cu_k, max_q, max_k = cuts
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert (int(cu_q[-1]), int(cu_k[-1])) == (len(q), len(k))
    assert (int(cu_q.diff().max()), int(cu_k.diff().max())) == (max_q, max_k)
    out = []
    for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        times = q.shape[1] // k.shape[1]
        keys, values = (t[c:d].repeat_interleave(times, 1).transpose(0, 1) for t in (k, v))
        apart = torch.arange(b - a)[:, None] + (d - c) - (b - a) - torch.arange(d - c)
        seen = (apart >= 0) & ((apart <= window[0]) if window[0] >= 0 else True)
        logits = q[a:b].transpose(0, 1) @ keys.transpose(1, 2) * scale
        weights = logits.masked_fill(~seen, float("-inf")).softmax(-1)
        out.append((weights @ values).transpose(0, 1))
    return torch.cat(out)


def newest(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
    return_aux: Any = None, scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Any:  # fmt: skip
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert window_size[1] == 0
    assert scale is not None
    return flash(query, key, value, (cu_seq_q, cu_seq_k, max_q, max_k), scale, window_size)


def middle(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
    return_aux: Any = None, scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
) -> Any:  # fmt: skip
    assert query.shape[1] == key.shape[1]
    assert scale is not None
    return flash(query, key, value, (cu_seq_q, cu_seq_k, max_q, max_k), scale, window_size)


def oldest(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int,
    is_causal: bool = False, return_aux: Any = None,
) -> Any:  # fmt: skip
    assert is_causal
    assert query.shape[1] == key.shape[1]
    cuts = cu_seq_q, cu_seq_k, max_q, max_k
    return flash(query, key, value, cuts, query.shape[2] ** -0.5, (-1, 0))


def use(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    import inspect

    names = frozenset(inspect.signature(function).parameters)
    monkeypatch.setattr(_varlen, "form", lambda: _varlen.Form(function, names))


@pytest.mark.parametrize("function", [newest, middle, oldest])
@pytest.mark.parametrize("heads", [(4, 2), (3, 3)])
def test_variable_length_attention_gathers_what_each_segment_sees(
    function: Any, heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, function)
    of = random(*heads, LONG[-1].stop)
    for window in [None] if function is oldest else [None, 1, 60]:
        wanted = attention_by_definition(of, LONG, None, window)
        out = _varlen.attend(plan_of(LONG), of, 0.3, None, window)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().view_as(out)
        slopes = [list(torch.autograd.grad((x * weights).sum(), of)) for x in (out, wanted)]
        assert furthest([out, *slopes[0]], [wanted, *slopes[1]]) < 1e-10


@settings(deadline=None, max_examples=50)
@given(layouts(), st.sampled_from([None, 3]))
def test_variable_length_attention_of_any_layout_is_as_defined(segments: Any, window: Any) -> None:
    where = _varlen._moved(_varlen.gathered(segments), torch.device("cpu"))
    of = random(2, 1, segments[-1].stop)
    rows = [one[0].transpose(0, 1) for one in of]
    if where.index is not None:
        rows[1:] = [_varlen._gather().apply(one, where) for one in rows[1:]]
    cuts = where.queries, where.keys, *where.longest
    out = flash(*rows, cuts, 0.3, (-1 if window is None else window - 1, 0))[None]
    wanted = attention_by_definition(of, segments, None, window)
    slopes = [list(torch.autograd.grad(x.square().sum(), of)) for x in (out, wanted)]
    for a, b in zip([out, *slopes[0]], [wanted, *slopes[1]], strict=True):
        assert (a - b).abs().max() < 1e-10


def test_a_soft_cap_is_refused_by_variable_length_attention() -> None:
    with pytest.raises(ValueError, match="soft-cap"):
        _varlen.attend(plan_of(LONG), random(1, 1, 750), 0.3, 30.0, None)


LLAMA = Shape(4, 2, 8, None, (None,))
GEMMA = Shape(4, 2, 8, 50.0, (None, 40))


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "word"),
    [
        ("varlen", GEMMA, torch.bfloat16, "soft-cap"),
        ("varlen", LLAMA, torch.float32, "16 bits"),
        ("varlen", Shape(4, 2, 12, None, (None,)), torch.bfloat16, "width 12"),
        ("flex", LLAMA, torch.float64, "float64"),
    ],
)
def test_what_a_gpu_backend_cannot_do_is_known_before_it_is_tried(
    name: str, shape: Shape, dtype: torch.dtype, word: str
) -> None:
    assert word in str(_choosing.unfit(name, shape, "cuda", str(dtype)))
    assert _choosing.unfit("buckets", shape, "cuda", str(dtype)) is None


def test_windows_need_a_version_of_torch_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sliding = Shape(4, 2, 8, None, (None, 40))
    use(monkeypatch, oldest)
    assert "sliding" in str(_choosing.unfit("varlen", sliding, "cuda", "torch.bfloat16"))
    use(monkeypatch, middle)
    assert _choosing.unfit("varlen", sliding, "cuda", "torch.bfloat16") is None


def test_on_a_cpu_buckets_are_chosen_and_the_others_refused() -> None:
    made, cpu = network("llama"), torch.device("cpu")
    assert choose(made, cpu, torch.float32).name == "buckets"
    assert choose(made, cpu, torch.float32, "buckets").name == "buckets"
    for name in ("flex", "varlen"):
        with pytest.raises(TrainingError, match=f"{name} cannot be used here: it needs a CUDA GPU"):
            choose(made, cpu, torch.float32, name)  # type: ignore[arg-type]


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials on a CPU as if it were a GPU, without the timing of a real row."""
    monkeypatch.setattr(_choosing, "unfit", lambda *_: None)
    monkeypatch.setattr(_choosing, "_TOKENS", 300)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)


def hides_too_much(plan: Plan, of: Any, scale: float, cap: Any, window: Any) -> Any:
    """The known trap: a second response that does not see its prompt."""
    torn = [Segment(s.start, s.stop) for s in plan.segments[2:3]]
    segments = (*plan.segments[:2], *torn, *plan.segments[3:])
    return _buckets.attend(plan_of(segments), of, scale, cap, window)


def forgets_the_window(plan: Plan, of: Any, scale: float, cap: Any, window: Any) -> Any:
    return _buckets.attend(plan, of, scale, cap, None)


def breaks(plan: Plan, of: Any, scale: float, cap: Any, window: Any) -> Any:
    raise MemoryError("no kernel image is available")


def makes_nan(plan: Plan, of: Any, scale: float, cap: Any, window: Any) -> Any:
    return _buckets.attend(plan, of, scale, cap, window) * float("nan")


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("attend", "why"),
    [
        (hides_too_much, "% off"),
        (forgets_the_window, "% off"),
        (makes_nan, "inf% off"),
        (breaks, "MemoryError: no kernel image"),
    ],
)
def test_a_backend_that_is_wrong_or_breaks_is_out(attend: Any, why: str, dtype: Any) -> None:
    trial = Trial(GEMMA, torch.device("cpu"), dtype, _buckets.attend)
    verdict = trial.judge("it", attend)
    assert verdict.milliseconds is None
    assert why in verdict.why


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_backend_that_is_right_is_timed(dtype: torch.dtype) -> None:
    trial = Trial(GEMMA, torch.device("cpu"), dtype, _buckets.attend)
    assert (trial.judge("buckets", _buckets.attend).milliseconds or 0) > 0


FOUND = {
    "flex": Verdict("flex", 2.0), "buckets": Verdict("buckets", 9.0),
    "varlen": Verdict("varlen", None, "it broke"),
}  # fmt: skip


def fake_gpu(monkeypatch: pytest.MonkeyPatch, found: dict[str, Verdict], tried: list[str]) -> Any:
    def verdict(trial: Any, name: str, attend: Any) -> Verdict:
        tried.append(name)
        return found[name]

    monkeypatch.setattr(_choosing, "verdict", verdict)
    return SimpleNamespace(type="cuda")


def test_the_fastest_that_is_right_is_taken_and_the_note_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = FOUND | {"varlen": Verdict("varlen", 3.0)}
    taken = choose(network("llama"), fake_gpu(monkeypatch, found, []), torch.bfloat16)
    assert taken.name == "flex"
    assert taken.note == "flex takes 2.00 ms; varlen takes 3.00 ms; buckets takes 9.00 ms"


def test_in_a_hurry_the_first_that_is_right_is_taken_and_no_more_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []
    device = fake_gpu(monkeypatch, FOUND | {"buckets": Verdict("buckets", 1.0)}, tried)
    taken = choose(network("llama"), device, torch.bfloat16, quick=True)
    assert taken.name == "flex"
    assert taken.note == "flex takes 2.00 ms; varlen is out: it broke"
    assert tried == ["varlen", "flex"]


def test_where_nothing_can_be_tried_buckets_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    none = {name: Verdict(name, None, "no memory") for name in FOUND}
    taken = choose(network("llama"), fake_gpu(monkeypatch, none, []), torch.bfloat16)
    assert taken.name == "buckets"
    assert taken.note.count("is out: no memory") == 3


def test_a_backend_that_was_asked_for_by_name_is_not_replaced_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, device = network("llama"), fake_gpu(monkeypatch, FOUND, [])
    assert choose(made, device, torch.bfloat16, "flex").name == "flex"
    with pytest.raises(TrainingError, match="varlen cannot be used here: it broke"):
        choose(made, device, torch.bfloat16, "varlen")


@pytest.mark.usefixtures("no_gpu_needed")
def test_a_trial_inside_inference_has_gradients_all_the_same() -> None:
    trial = Trial(
        Shape(2, 2, 8, None, (None,)), torch.device("cpu"), torch.float32, _buckets.attend
    )
    with torch.inference_mode():
        assert _choosing.verdict(trial, "buckets", _buckets.attend).milliseconds is not None
