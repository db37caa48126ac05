"""Simple preference optimization, without a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from fusechat.losses._preference import per_token, preference_loss
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class Simpo(Loss):
    """Simple preference optimization: mean log-probabilities, a target margin, no reference.

    `L = -log sigma(beta/|y_w| log pi(y_w|x) - beta/|y_l| log pi(y_l|x) - gamma)`:
    Meng et al. 2024 (arXiv 2405.14734), equation 6. `gamma` here is the paper's, a margin of
    rewards, as `simpo_gamma` in TRL; `gamma_beta_ratio` is `gamma / beta`, a margin in nats of a
    token, as the SimPO authors' code names it. `|y|` counts the end-of-turn token. Betas in the
    paper are 2 to 10, and the ratio is tuned in (0, 1).
    """

    consumes: ClassVar[RowType] = "Pair"

    beta: float = Field(default=2.0, gt=0)
    """Reward per nat of a token, above 0."""
    gamma: float | None = Field(default=None, ge=0)
    """Margin that rewards should differ by; null: `gamma_beta_ratio` says it."""
    gamma_beta_ratio: float | None = Field(default=None, ge=0)
    """The same in nats of a token (gamma / beta); null: 0.5, unless `gamma` is given."""

    @model_validator(mode="after")
    def _one_margin(self) -> Self:
        if self.gamma is not None and self.gamma_beta_ratio is not None:
            raise ValueError("gamma and gamma_beta_ratio say the same thing; give one of them.")
        return self

    @property
    def target_margin(self) -> float:
        """The paper's gamma, in the scale of the rewards."""
        if self.gamma is not None:
            return self.gamma
        return self.beta * (0.5 if self.gamma_beta_ratio is None else self.gamma_beta_ratio)

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair and its metrics, all `[rows]`.

        Reads the summed log-probabilities `chosen` and `rejected`, nats; `KeyError` where one is
        missing. Rewards are mean log-probabilities times beta; margins are without gamma.
        """
        chosen, rejected = (
            self.beta * per_token(side, logps[side], lengths) for side in ("chosen", "rejected")
        )
        return preference_loss(chosen, rejected, self.target_margin)
