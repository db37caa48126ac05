"""TRL as oracle: loss and gradient of whole steps on a random tiny Llama, in float32."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from packed_models import packed_engine
from training_tiny import demonstrations, make_model, make_tokenizer, pairs

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import Loss
from fusechat.training.engine import Engine, PaddedEngine
from fusechat.training.examples import Example, Text
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

pytestmark = pytest.mark.filterwarnings("ignore")
CPU = torch.device("cpu")
KINDS = ("padded", "packed", "shared")


def _arguments(config: Any, folder: Path, **more: Any) -> Any:
    return config(
        output_dir=str(folder), per_device_train_batch_size=6, report_to=[], use_cpu=True,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True, max_length=None, **more,
    )  # fmt: skip


def _conversations(rows: list[Any], *sides: str) -> list[dict[str, Any]]:
    names = {"response": "completion"}
    return [
        {
            "prompt": [{"role": "user", "content": row.messages[0].content}],
            **{
                names.get(side, side): [{"role": "assistant", "content": getattr(row, side)}]
                for side in sides
            },
        }
        for row in rows
    ]


def _examples(ids: torch.Tensor, mask: torch.Tensor, width: torch.Tensor) -> list[Text]:
    """The rows of a batch as TRL collated it, without their padding."""
    return [
        Text(row[: int(n)].numpy().astype("int32"), int(m.argmax()))
        for row, m, n in zip(ids, mask, width, strict=True)
    ]


def _engine(kind: str, model: Any, loss: Loss) -> Engine:
    """`padded`, or packed with each prompt once (`shared`) or as often as there are responses."""
    if kind == "padded":
        return PaddedEngine(model, loss, Ranks(CPU), 2)
    return packed_engine(model, loss, budget=60, share=kind == "shared")


def _ours(
    engine: Engine, model: Any, examples: list[Example], reference: torch.Tensor | None
) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    result = engine.backward(examples, Known(reference), 0.0)
    return result.sums[0].item(), [parameter.grad for parameter in model.parameters()]


def _assert_same(ours: tuple[float, list[torch.Tensor]], loss: torch.Tensor, model: Any) -> None:
    assert ours[0] == pytest.approx(loss.item(), rel=1e-4)
    for one, parameter in zip(ours[1], model.parameters(), strict=True):
        difference = (one - parameter.grad).norm() / parameter.grad.norm()
        assert difference < 1e-4


@pytest.mark.parametrize(
    ("loss_type", "loss"),
    [("sigmoid", Dpo(beta=0.1)), ("sigmoid_norm", LengthNormalizedDpo(beta=10))],
)
def test_a_preference_step_has_the_loss_and_gradient_of_trls_dpo_trainer(
    loss_type: str, loss: Any, tmp_path: Path
) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    rows = _conversations(pairs(6), "chosen", "rejected")
    policy, reference = make_model(seed=1), make_model(seed=2)
    own, own_reference = copy.deepcopy(policy), copy.deepcopy(reference)
    trainer = trl.DPOTrainer(
        model=policy, ref_model=reference, processing_class=make_tokenizer(),
        args=_arguments(trl.DPOConfig, tmp_path, loss_type=[loss_type], beta=loss.beta),
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    texts = _examples(batch["input_ids"], batch["completion_mask"], batch["attention_mask"].sum(1))
    examples = [
        Example(str(n), pair, 1.0) for n, pair in enumerate(zip(texts[:6], texts[6:], strict=True))
    ]
    theirs = trainer.compute_loss(trainer.model, batch)
    assert theirs.item() != pytest.approx(0.6931, abs=1e-2)
    torch.autograd.backward(theirs)
    for kind in KINDS:
        known = _engine(kind, own_reference, loss).logps(examples)
        ours = _ours(_engine(kind, own, loss), own, examples, known)
        _assert_same(ours, theirs, trainer.model)


def test_a_supervised_step_has_the_loss_and_gradient_of_trls_sft_trainer(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    model = make_model(seed=1)
    own = copy.deepcopy(model)
    rows = _conversations(demonstrations(6), "response")
    trainer = trl.SFTTrainer(
        model=model, processing_class=make_tokenizer(),
        args=_arguments(trl.SFTConfig, tmp_path, completion_only_loss=True),
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    texts = _examples(
        batch["input_ids"], (batch["labels"] != -100).long(), batch["attention_mask"].sum(1)
    )
    examples = [Example(str(n), (text,), 1.0) for n, text in enumerate(texts)]
    theirs = trainer.compute_loss(trainer.model, batch)
    torch.autograd.backward(theirs)
    for kind in KINDS:
        ours = _ours(_engine(kind, own, Sft()), own, examples, None)
        _assert_same(ours, theirs, trainer.model)
