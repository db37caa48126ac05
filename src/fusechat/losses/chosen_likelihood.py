"""Supervised fine-tuning on the chosen responses of pairs: the control for preference losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from fusechat.losses._preference import (
    log_ratio,
    normalized_metrics,
    per_token,
    reward_metrics,
)
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class ChosenLikelihood(Loss):
    """Cross-entropy on the chosen responses of pairs: SFT in place of DPO, as a control.

    `L = -(1/T) sum_i log pi(y_w,i | x_i)` with `T = sum_i |y_w,i|` over the whole global batch:
    the loss `sft` (FuseChat-3.0, arXiv 2503.04222, SFT stage) on the chosen responses, and nothing
    else. Rejected responses do not enter it, but are measured as in DPO, with the same reference:
    rewards are log-ratios per token, so that accuracies mean what they mean for
    `length_normalized_dpo`, and margins the same at beta 1.
    """

    consumes: ClassVar[RowType] = "Pair"
    needs_reference: ClassVar[bool] = True
    reduction: ClassVar[Literal["rows", "tokens"]] = "tokens"
    counted: ClassVar[tuple[str, ...] | None] = ("chosen",)

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Negative summed log-probability of each chosen response, nats `[rows]`, and metrics.

        Reads what `dpo` reads; the metrics are those of `dpo` too.
        """
        chosen, rejected = (
            per_token(side, log_ratio(side, logps), lengths) for side in ("chosen", "rejected")
        )
        metrics = reward_metrics(chosen, rejected)
        return -logps["chosen"], {**metrics, **normalized_metrics(logps, lengths)}
