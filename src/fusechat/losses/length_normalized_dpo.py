"""Length-normalized direct preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fusechat.losses.dpo import preference_loss
from fusechat.parts import Loss

if TYPE_CHECKING:
    import torch


class LengthNormalizedDpo(Loss):
    """DPO on log-ratios per token: each side is divided by its own length.

    `L = -log sigma(beta/|y_w| log[pi(y_w|x)/ref(y_w|x)] - beta/|y_l| log[pi(y_l|x)/ref(y_l|x)])`:
    FuseChat-3.0, DPO stage (Llama targets, beta 10); the length-normalized DPO of Tulu 3
    (arXiv 2411.15124, equation 6), `sigmoid_norm` in TRL. `|y|` counts the summed tokens, the
    end-of-turn token included, and is at least 1. Rewards and margins are logged per token too.
    """

    consumes: ClassVar[Literal["Demonstration", "Pair"]] = "Pair"
    needs_reference: ClassVar[bool] = True

    beta: float = Field(default=10.0, gt=0)
    """Strength of the pull towards the reference, per nat per token."""

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair `[rows]`; rewards, margins and accuracies of each pair, per token."""
        return preference_loss(
            self._reward("chosen", logps, lengths), self._reward("rejected", logps, lengths)
        )

    def _reward(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        ratio = logps[side] - logps[f"reference_{side}"]
        return self.beta * ratio / lengths[side].clamp(min=1)
