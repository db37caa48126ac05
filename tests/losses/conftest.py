"""Fixtures of the loss tests."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

Inputs = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


class _Model:
    """Gives TRL per-token log-probabilities that add up to the wanted sums."""

    def __init__(self, logps: Mapping[str, torch.Tensor], mask: torch.Tensor) -> None:
        sums = torch.cat([logps["chosen"], logps["rejected"]])
        shifted = mask[:, 1:]
        self.log_probs = shifted * (sums / shifted.sum(1))[:, None]

    def __call__(self, **_: Any) -> SimpleNamespace:
        nothing = torch.zeros_like(self.log_probs)
        return SimpleNamespace(
            log_probs=self.log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )


def _trainer(loss_type: str, beta: float) -> SimpleNamespace:
    accelerator = SimpleNamespace(device="cpu", gather=lambda t: t, gather_for_metrics=lambda t: t)
    return SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=accelerator, aux_loss_enabled=False,
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=[loss_type], loss_weights=[1.0], use_weighting=False, beta=beta, _tp_size=1,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0,
    )  # fmt: skip


@pytest.fixture
def trl_preference_loss() -> Callable[[str, float, Inputs], tuple[float, dict[str, float]]]:
    """TRL's own loss code on given sums and lengths: (mean loss, its logged metrics)."""
    trainer_module = pytest.importorskip("trl.trainer.dpo_trainer")

    def run(loss_type: str, beta: float, inputs: Inputs) -> tuple[float, dict[str, float]]:
        logps, lengths = inputs
        tokens = torch.cat([lengths["chosen"], lengths["rejected"]])
        places = torch.arange(int(tokens.max()) + 1)[None, :]
        mask = ((places >= 1) & (places <= tokens[:, None])).long()
        batch = {
            "input_ids": torch.zeros_like(mask), "attention_mask": mask, "completion_mask": mask,
            "ref_chosen_logps": logps["reference_chosen"],
            "ref_rejected_logps": logps["reference_rejected"],
        }  # fmt: skip
        trainer = _trainer(loss_type, beta)
        loss = trainer_module.DPOTrainer._compute_loss(
            trainer, _Model(logps, mask), batch, return_outputs=False
        )
        return loss.item(), {name: v[0] for name, v in trainer._metrics["train"].items() if v}

    return run


@pytest.fixture
def trl_cpo_loss() -> Callable[[str, float, float, Inputs], tuple[torch.Tensor, Any, Any]]:
    """TRL's reference-free losses on given sums and lengths: (losses, rewards of both sides)."""
    pytest.importorskip("trl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that its experimental trainers may change
        trainer_module = pytest.importorskip("trl.experimental.cpo.cpo_trainer")

    def run(
        loss_type: str, beta: float, gamma: float, inputs: Inputs
    ) -> tuple[torch.Tensor, Any, Any]:
        logps, lengths = inputs
        trainer = SimpleNamespace(
            alpha=0.0, loss_type=loss_type, simpo_gamma=gamma, beta=beta, label_smoothing=0.0,
            accelerator=SimpleNamespace(device="cpu"),
        )  # fmt: skip
        # TRL averages the log-probabilities over their tokens before this.
        means = (logps[side] / lengths[side] for side in ("chosen", "rejected"))
        found: tuple[torch.Tensor, Any, Any] = trainer_module.CPOTrainer.cpo_loss(trainer, *means)
        return found

    return run


@pytest.fixture
def random_pairs() -> Callable[[int], Inputs]:
    """Random summed log-probabilities (float64) and lengths of 16 pairs."""

    def draw(seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
        logps = {
            name: -200 * torch.rand(16, dtype=torch.float64, generator=generator) for name in names
        }
        lengths = {
            side: torch.randint(1, 400, (16,), generator=generator)
            for side in ("chosen", "rejected")
        }
        return logps, lengths

    return draw
