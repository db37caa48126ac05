"""What losses of chosen and rejected responses share: the logistic loss and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Named = Mapping[str, "torch.Tensor"]


def preference_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: float = 0.0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`-log sigma(chosen - rejected - margin)` of implicit rewards `[rows]`, and what to log.

    The loss is in nats, above 0, and ln 2 where the rewards differ by just `margin`.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected - margin), reward_metrics(chosen, rejected)


def reward_metrics(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, torch.Tensor]:
    """What to log of implicit rewards, each `[rows]` and without gradients.

    `rewards_chosen`, `rewards_rejected`, `margins` (their difference, in whatever scale the
    rewards have) and `accuracies` (1 where the margin is above 0).
    """
    margins = (chosen - rejected).detach()
    return {
        "rewards_chosen": chosen.detach(),
        "rewards_rejected": rejected.detach(),
        "margins": margins,
        "accuracies": (margins > 0).to(margins.dtype),
    }


def log_ratio(side: str, logps: Named) -> torch.Tensor:
    """`log pi(y|x) / ref(y|x)` of one side, nats of the whole response `[rows]`."""
    return logps[side] - logps[f"reference_{side}"]


def per_token(side: str, sums: torch.Tensor, lengths: Named) -> torch.Tensor:
    """Sums over the responses of a side, divided by its tokens (at least 1) `[rows]`."""
    return sums / lengths[side].clamp(min=1)


def normalized_metrics(
    logps: Named, lengths: Named, chosen: str = "chosen"
) -> dict[str, torch.Tensor]:
    """The same measure for every loss with a reference, so that their curves can be compared.

    `normalized_margins`: log-ratio per token of the side `chosen` less that of the rejected side,
    in nats of a token, without beta; `normalized_accuracies`: 1 where that is above 0.
    """
    good, bad = (
        per_token(side, log_ratio(side, logps), lengths).detach() for side in (chosen, "rejected")
    )
    margins = good - bad
    return {
        "normalized_margins": margins,
        "normalized_accuracies": (margins > 0).to(margins.dtype),
    }
