"""Which engine a job gets, and whether its prompts are shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packed_models import CPU, model_of, rows_of

from fusechat.losses.dpo import Dpo
from fusechat.parts import Where
from fusechat.progress import Progress
from fusechat.stages.train_settings import DpoSettings
from fusechat.training.engine import PackedEngine, PaddedEngine
from fusechat.training.engines import BIN_TOKENS, SHARING_WASTE, make_engine, share_prompts
from fusechat.training.examples import Example
from fusechat.training.loop import Job
from fusechat.training.packing import Totals
from fusechat.training.ranks import Ranks


class _Noting(Progress):
    def __init__(self) -> None:
        super().__init__("test")
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _engine(
    model: Any, rows: Sequence[Example] = (), where: Where | None = None, **settings: Any
) -> tuple[Any, list[str]]:
    progress = _Noting()
    job = Job(
        Path(), Path(), None, rows or rows_of(9, 2),
        DpoSettings(loss=Dpo(), **settings), {}, 0, where or Where(device="cpu"), progress,
    )  # fmt: skip
    return make_engine(job, model, Ranks(CPU)), progress.notes


def test_a_known_model_is_packed_with_buckets_on_a_cpu_and_shares_its_prompts() -> None:
    engine, notes = _engine(model_of("llama"))
    assert isinstance(engine, PackedEngine)
    assert (engine.budget, engine.share, engine.module.backend.name) == (
        BIN_TOKENS["cpu"], True, "buckets",
    )  # fmt: skip
    (note,) = notes
    assert note.startswith("the responses of a row share one copy of their prompt: sharing comp")
    counts = engine.counts()
    assert counts["shared_prompts"]
    assert counts["tokens"] == sum(len(t.ids) for row in rows_of(9, 2) for t in row.texts)
    assert counts["computed_tokens"] == counts["tokens"] - sum(r.shared for r in rows_of(9, 2))


def test_the_place_says_how_many_tokens_and_the_settings_what_is_shared() -> None:
    where = Where(device="cpu", micro_batch_tokens=77)
    engine, notes = _engine(model_of("llama"), where=where, share_prompts="never")
    assert (engine.budget, engine.share) == (77, False)
    assert "have a copy each" in notes[0]
    assert engine.counts()["computed_tokens"] == engine.counts()["tokens"]


def test_the_padded_engine_is_there_when_asked_for() -> None:
    engine, notes = _engine(model_of("llama"), engine="padded")
    assert isinstance(engine, PaddedEngine)
    assert notes == []


def test_a_model_that_cannot_be_packed_trains_padded_with_a_note_of_why() -> None:
    config = transformers.GPT2Config(
        vocab_size=66, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1,
        eos_token_id=4,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    model.lm_head = torch.nn.Sequential(model.lm_head)
    engine, notes = _engine(model)
    assert isinstance(engine, PaddedEngine)
    assert notes[0].startswith("the padded engine is used, since this model cannot be packed: ")


@pytest.mark.parametrize(
    ("asked", "unshared", "shared", "wanted"),
    [
        ("auto", 103, 100, True), ("auto", 101, 100, False), ("always", 100, 100, True),
        ("never", 200, 100, False),
    ],
)  # fmt: skip
def test_prompts_are_shared_where_that_saves_more_than_it_wastes(
    asked: str, unshared: int, shared: int, wanted: bool
) -> None:
    assert share_prompts(asked, Totals(unshared, shared), 0.02) == wanted


def test_every_backend_has_its_waste() -> None:
    assert set(SHARING_WASTE) == {"buckets", "flex", "varlen"}
    assert SHARING_WASTE["buckets"] < SHARING_WASTE["flex"]
