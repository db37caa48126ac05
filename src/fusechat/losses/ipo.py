"""Identity preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fusechat.losses._preference import (
    log_ratio,
    normalized_metrics,
    per_token,
    reward_metrics,
)
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class Ipo(Loss):
    """Identity preference optimization: a fixed margin is aimed at, not an endless one.

    `L = (h - 1/(2 beta))^2`, `h = log[pi(y_w|x)/ref(y_w|x)] - log[pi(y_l|x)/ref(y_l|x)]`:
    Azar et al. 2023 (arXiv 2310.12036), equation 17; their tau is `beta` here. The paper sums
    log-probabilities over the response; its authors confirmed to TRL that their results come from
    means over its tokens, so `ipo` in TRL divides each side by its own length, as here by default.
    `average: false` is the formula as printed.
    """

    consumes: ClassVar[RowType] = "Pair"
    needs_reference: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0)
    """Above 0; the margin that is aimed at is 1 / (2 beta) nats."""
    average: bool = True
    """Whether log-ratios are nats of a token (each side over its own tokens) or of a response."""

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair, in squared nats, and its metrics, all `[rows]`.

        Reads what `dpo` reads. Rewards are beta times the log-ratios that the loss compares, so
        the margin that is aimed at is 0.5.
        """
        chosen, rejected = (self._ratio(side, logps, lengths) for side in ("chosen", "rejected"))
        losses = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        metrics = reward_metrics(self.beta * chosen, self.beta * rejected)
        return losses, {**metrics, **normalized_metrics(logps, lengths)}

    def _ratio(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        ratio = log_ratio(side, logps)
        return per_token(side, ratio, lengths) if self.average else ratio
