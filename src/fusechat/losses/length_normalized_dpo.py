"""Length-normalized direct preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from fusechat.losses._preference import per_token
from fusechat.losses.dpo import Dpo

if TYPE_CHECKING:
    import torch


class LengthNormalizedDpo(Dpo):
    """DPO on log-ratios per token: each side is divided by its own length.

    `L = -log sigma(beta/|y_w| log[pi(y_w|x)/ref(y_w|x)] - beta/|y_l| log[pi(y_l|x)/ref(y_l|x)])`:
    FuseChat-3.0, DPO stage (Llama targets, beta 10); the length-normalized DPO of Tulu 3
    (arXiv 2411.15124, equation 6), `sigmoid_norm` in TRL. `|y|` counts the summed tokens, the
    end-of-turn token included, and is at least 1. Rewards and margins are logged per token too.
    """

    beta: float = Field(default=10.0, gt=0)
    """Strength of the pull towards the reference, above 0: reward per nat per token."""

    def _reward(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return per_token(side, super()._reward(side, logps, lengths), lengths)
