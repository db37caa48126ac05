"""InfiFPO: preference optimization with a fused source model in place of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fusechat.losses._preference import normalized_metrics, per_token, preference_loss
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class InfiFpo(Loss):
    """InfiFPO: DPO whose reference is, pair by pair, the most different of the source models.

    `L = -log sigma(beta log[M_p(y_w|x)/M_fu(y_w|x)] - beta log[M_p(y_l|x)/M_fu(y_l|x)])`:
    Gu et al. 2025 (arXiv 2505.13878), equation 13. Every log-probability is a mean over the tokens
    that the response has in that model's own tokenizer (equation 10). A source's value is clipped:
    for the chosen response it is not below the initial pivot's, for the rejected one not above
    (equation 11). `M_fu` is the clipped source with the largest `|M_s - M_p|`, a difference of
    probabilities (equation 12). `M_p` is the policy; the initial pivot is the policy before this
    stage, and is one of the sources (section 3.1), so that a pair for which no source gave a
    value has length-normalized DPO's loss. The paper has beta 2.5 and compares with the *current*
    pivot; whether gradients should flow through the choice is not stated, and here none do.
    """

    consumes: ClassVar[RowType] = "Pair"
    needs_reference: ClassVar[bool] = True
    needs_sources: ClassVar[bool] = True

    beta: float = Field(default=2.5, gt=0)
    """Strength of the pull towards the fused model, above 0: reward per nat of a token."""
    clip: bool = True
    """Whether a source counts only where it agrees with the pair more than the initial pivot."""
    margin_from: Literal["current", "initial"] = "current"
    """Which pivot the fused source differs from the most: as it is now, or before this stage."""
    sources: tuple[str, ...] | None = None
    """Names of the recipe's sources that are asked how likely they find each response; null: all
    that can tell."""

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair and its metrics, all `[rows]`.

        Reads what `dpo` reads, and `sources_chosen` and `sources_rejected` of both mappings,
        `[rows, sources]`, nan and 0 where a source gave no value. Rewards are against the fused
        model; `source_shift_chosen` and `source_shift_rejected` are its log-probability of a token
        less the initial pivot's (0 where no source was taken).
        """
        rewards, shifts = {}, {}
        for side in ("chosen", "rejected"):
            policy = per_token(side, logps[side], lengths)
            pivot = per_token(side, logps[f"reference_{side}"], lengths)
            fused = self._fused(side, policy.detach(), pivot, logps, lengths)
            rewards[side] = self.beta * (policy - fused)
            shifts[f"source_shift_{side}"] = fused - pivot
        losses, metrics = preference_loss(rewards["chosen"], rewards["rejected"])
        return losses, {**metrics, **shifts, **normalized_metrics(logps, lengths)}

    def _fused(
        self,
        side: str,
        policy: torch.Tensor,
        pivot: torch.Tensor,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Log-probability of a token under the fused source model, nats `[rows]`."""
        import torch

        name, own = f"sources_{side}", pivot[:, None]
        sources = per_token(name, logps[name], lengths)
        sources = torch.where(sources.isnan(), own, sources)
        if self.clip:
            limit = torch.maximum if side == "chosen" else torch.minimum
            sources = limit(sources, own)
        sources = torch.cat([own, sources], dim=1)
        centre = policy if self.margin_from == "current" else pivot
        distance = (sources.exp() - centre.exp()[:, None]).abs()
        farthest = distance == distance.max(dim=1, keepdim=True).values
        # Of sources that are equally far, the one of the highest value: no matter their order.
        return sources.masked_fill(~farthest, -torch.inf).max(dim=1).values
