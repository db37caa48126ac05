"""Direct preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fusechat.losses._preference import log_ratio, normalized_metrics, preference_loss
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class Dpo(Loss):
    """Direct preference optimization on summed log-probabilities.

    `L = -log sigma(beta log[pi(y_w|x)/ref(y_w|x)] - beta log[pi(y_l|x)/ref(y_l|x)])`:
    Rafailov et al. 2023 (arXiv 2305.18290), equation 7. FuseChat-3.0 uses beta 0.01 for
    Qwen-2.5-7B and Gemma-2-9B; 0.1 is the value that the DPO paper made common.
    """

    consumes: ClassVar[RowType] = "Pair"
    needs_reference: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference, above 0: reward per nat of a whole response."""

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair and its metrics, all `[rows]`.

        Reads the summed log-probabilities `chosen`, `rejected`, `reference_chosen` and
        `reference_rejected`, in nats; `KeyError` where one is missing. Metrics:
        `rewards_chosen`, `rewards_rejected`, `margins` and `accuracies` in the loss's own scale;
        `normalized_margins` and `normalized_accuracies` per token, the same for every loss.
        """
        losses, metrics = preference_loss(
            self._reward("chosen", logps, lengths), self._reward("rejected", logps, lengths)
        )
        return losses, {**metrics, **normalized_metrics(logps, lengths)}

    def _reward(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.beta * log_ratio(side, logps)
