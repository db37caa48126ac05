"""Out of memory: the step is done again in smaller pieces, and gives what it would have given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from packed_models import CPU, model_of, packed_engine, rows_of
from training_tiny import random_examples

from fusechat.errors import TrainingError
from fusechat.losses.dpo import Dpo
from fusechat.training.engine import PackedEngine, PaddedEngine
from fusechat.training.examples import Example
from fusechat.training.oom import is_out_of_memory
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

ON_CPU = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError(ON_CPU), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (MemoryError(), True),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_errors_of_memory_are_taken_for_one(error: Exception, known: bool) -> None:
    assert is_out_of_memory(error) == known


def _without_room(engine: PackedEngine, most: int, error: Callable[[], Exception]) -> list[int]:
    """Lets bins of more than `most` tokens fail after their backward pass; gives their sizes."""
    sizes: list[int] = []

    def after(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        tokens = inputs[0].input_ids.shape[1]
        sizes.append(tokens)

        def fail(gradient: torch.Tensor) -> torch.Tensor:
            if tokens > most:
                raise error()
            return gradient

        if output.requires_grad:
            output.register_hook(fail)  # type: ignore[no-untyped-call]
        elif tokens > most:
            raise error()
        return output

    engine.module.register_forward_hook(after)
    return sizes


def _known(rows: list[Example]) -> Known:
    return Known(torch.full((len(rows), 2), -20.0, dtype=torch.float64))


@pytest.mark.parametrize("error", [lambda: torch.OutOfMemoryError("CUDA out of memory"),
                                   lambda: RuntimeError(ON_CPU), MemoryError])  # fmt: skip
def test_a_step_that_ran_out_of_memory_has_the_gradients_of_one_that_did_not(
    error: Callable[[], Exception],
) -> None:
    rows = rows_of(12, 2)
    notes: list[str] = []
    model, other = model_of("llama"), model_of("llama")
    engine = packed_engine(model, Dpo(), budget=160)
    engine.note = notes.append
    sizes = _without_room(engine, 79, error)
    result = engine.backward(rows, _known(rows), 0.0)
    assert max(sizes) > 79
    assert engine.budget <= 80
    plain = packed_engine(other, Dpo(), budget=engine.budget)
    wanted = plain.backward(rows, _known(rows), 0.0)
    assert result.sums.equal(wanted.sums)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad.equal(two.grad)
    (note,) = notes
    assert f"with {engine.budget} tokens at a time (micro_batch_tokens)" in note


def test_the_smaller_budget_stays_for_all_later_steps() -> None:
    rows = rows_of(12, 2)
    engine = packed_engine(model_of("llama"), Dpo(), budget=160)
    sizes = _without_room(engine, 79, MemoryError)
    engine.logps(rows)
    sizes.clear()
    engine.logps(rows)
    assert max(sizes) <= 79


def test_a_budget_far_above_the_step_is_not_halved_in_vain() -> None:
    rows = rows_of(6, 2)
    engine = packed_engine(model_of("llama"), Dpo(), budget=10**6)
    sizes = _without_room(engine, 100, MemoryError)
    engine.logps(rows)
    assert sizes[0] > 100
    assert sum(size > 100 for size in sizes) <= 2


def test_a_single_row_that_does_not_fit_stops_with_what_to_do() -> None:
    rows = rows_of(4, 2)
    engine = packed_engine(model_of("llama"), Dpo(), budget=100)
    _without_room(engine, 5, MemoryError)
    with pytest.raises(TrainingError, match=r"one row of \d+ tokens.*gradient_checkpointing"):
        engine.backward(rows, _known(rows), 0.0)
    assert all(parameter.grad is None for parameter in engine.module.parameters())


def test_other_errors_are_not_tried_again() -> None:
    rows = rows_of(4, 2)
    calls: list[int] = []
    engine = packed_engine(model_of("llama"), Dpo())

    def fail(*call: Any) -> None:
        calls.append(1)
        raise ZeroDivisionError

    engine.module.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        engine.logps(rows)
    assert len(calls) == 1


class _BesideAFullRank(Ranks):
    """One of two ranks, the other of which runs out of memory in its first attempts."""

    failures = 1

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 0 and self.failures:
            type(self).failures -= 1
            tensor += 1
        return tensor


def test_a_rank_does_its_step_again_when_another_ran_out_of_memory() -> None:
    rows = rows_of(12, 2)
    engine = packed_engine(model_of("llama"), Dpo(), 160, ranks=_BesideAFullRank(CPU, 0, 2))
    engine.backward(rows, _known(rows), 0.0)
    assert engine.budget < 100
    other = packed_engine(model_of("llama"), Dpo(), 160, ranks=_BesideAFullRank(CPU, 1, 2))
    other.budget = 160
    _BesideAFullRank.failures = 1
    other.backward(rows, _known(rows), 0.0)
    assert other.budget == engine.budget  # from the rows alone


def test_ranks_that_wait_for_each_other_inside_a_step_stop_and_say_what_to_set() -> None:
    rows = rows_of(12, 2)
    engine = packed_engine(model_of("llama"), Dpo(), 160, ranks=Ranks(CPU, 0, 2))
    engine.lockstep = True
    _without_room(engine, 10, MemoryError)
    with pytest.raises(TrainingError, match="micro_batch_tokens: 68"):
        engine.logps(rows)


def test_the_padded_engine_halves_its_rows() -> None:
    rows = random_examples(8, 2)
    notes: list[str] = []
    engine = PaddedEngine(model_of("llama"), Dpo(), Ranks(CPU), note=notes.append)

    def fail(module: Any, inputs: Any, options: Any, output: Any) -> None:
        if options["input_ids"].shape[0] > 4:
            raise MemoryError

    engine.model.register_forward_hook(fail, with_kwargs=True)
    found = engine.logps(rows)
    assert engine.micro_batch_size == 2
    assert found.equal(PaddedEngine(model_of("llama"), Dpo(), Ranks(CPU), 2).logps(rows))
    assert len(notes) == 2
