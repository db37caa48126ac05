"""Supervised fine-tuning: imitate the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class Sft(Loss):
    """Cross-entropy on the response tokens, averaged over all tokens of a step.

    `L = -(1/T) sum_i log pi(y_i | x_i)` with `T = sum_i |y_i|` over the whole global batch,
    the end-of-turn token included and the prompt left out (FuseChat-3.0, arXiv 2503.04222, SFT
    stage). A mean of per-batch means would weigh tokens by the batch they happen to fall into; so
    a row's loss here is its sum in nats, and the step divides by the step's tokens.
    """

    consumes: ClassVar[RowType] = "Demonstration"
    reduction: ClassVar[Literal["rows", "tokens", "weights", "weighted_tokens"]] = "tokens"

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Negative summed log-probability of each response, nats `[rows]`, 0 or above; no metrics.

        Reads `logps["response"]` only; `KeyError` where it is missing.
        """
        return -logps["response"], {}
