"""Direct preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

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
        """Loss of each pair and its metrics, all `[rows]`; see `preference_loss`.

        Reads the summed log-probabilities `chosen`, `rejected`, `reference_chosen` and
        `reference_rejected`, in nats; `KeyError` where one is missing.
        """
        return preference_loss(
            self._reward("chosen", logps, lengths), self._reward("rejected", logps, lengths)
        )

    def _reward(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.beta * (logps[side] - logps[f"reference_{side}"])


def preference_loss(
    chosen: torch.Tensor, rejected: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`-log sigma(chosen - rejected)` of implicit rewards `[rows]`, and what to log of them.

    The loss is in nats, above 0, and ln 2 where both rewards are equal. Metrics, each `[rows]`
    and without gradients: `rewards_chosen`, `rewards_rejected`, `margins` (their difference,
    in whatever scale the rewards have) and `accuracies` (1 where the margin is above 0).
    """
    from torch.nn.functional import logsigmoid

    margins = chosen - rejected
    metrics = {
        "rewards_chosen": chosen.detach(),
        "rewards_rejected": rejected.detach(),
        "margins": margins.detach(),
        "accuracies": (margins > 0).to(margins.dtype),
    }
    return -logsigmoid(margins), metrics
