"""Weighted-reward preference optimization, for implicit model fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fusechat.losses._preference import log_ratio, normalized_metrics, per_token, preference_loss
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class Wrpo(Loss):
    """Weighted-reward preference optimization: the chosen side moves from target to source.

    `L = -log sigma(alpha r(y_ws) + (1 - alpha) r(y_wt) - r(y_l))`,
    `r(y) = beta log[pi(y|x)/ref(y|x)]`: Yang et al. 2024 (arXiv 2412.03187), the WRPO objective
    (its number in the paper was not at hand). `y_ws`: the sources' best response; `y_wt` and
    `y_l`: the best and the worst of the target's own samples; the reference is the target after
    SFT. Defaults are those of the authors' code: alpha rises with training as `alpha t/T`, from 0
    to 0.1, beta 0.01, sums over the response. At alpha 0 it is DPO on (y_wt, y_l), at 1 on
    (y_ws, y_l). `length_normalized` is not in the paper: it divides each log-ratio by its own
    tokens, which sets WRPO beside length-normalized DPO in like scale (beta 10, say).
    """

    consumes: ClassVar[RowType] = "Triple"
    needs_reference: ClassVar[bool] = True

    alpha: float = Field(default=0.1, ge=0, le=1)
    """Weight of the source's response in the chosen reward, in [0, 1]."""
    schedule: Literal["dynamic", "constant"] = "dynamic"
    """`dynamic`: the weight rises in a line from 0 to `alpha` over training; `constant`: it is
    `alpha` at every step."""
    beta: float = Field(default=0.01, gt=0)
    """Strength of the pull towards the reference, above 0: reward per nat of a whole response, or
    of a token where `length_normalized`."""
    length_normalized: bool = False
    """Whether each log-ratio is divided by the tokens of its own response."""

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each triple and its metrics, all `[rows]`.

        Reads the summed log-probabilities of `source_chosen`, `target_chosen` and `rejected`, and
        of each under the reference, nats; `KeyError` where one is missing. `rewards_chosen` is the
        weighted one; the two that it is made of are logged too, and so is `alpha`.
        `normalized_margins` compares the target's own chosen response with the rejected one.
        """
        import torch

        source, target, rejected = (self._reward(side, logps, lengths) for side in self.sides)
        alpha = self.alpha_at(progress)
        losses, metrics = preference_loss(alpha * source + (1 - alpha) * target, rejected)
        own = {
            "rewards_source_chosen": source.detach(),
            "rewards_target_chosen": target.detach(),
            "alpha": torch.full_like(source.detach(), alpha),
        }
        return losses, {**metrics, **own, **normalized_metrics(logps, lengths, "target_chosen")}

    def alpha_at(self, progress: float) -> float:
        """Weight of the source's response when this share of training, in [0, 1], is done."""
        return self.alpha * progress if self.schedule == "dynamic" else self.alpha

    def _reward(
        self, side: str, logps: Mapping[str, torch.Tensor], lengths: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        ratio = self.beta * log_ratio(side, logps)
        return per_token(side, ratio, lengths) if self.length_normalized else ratio
