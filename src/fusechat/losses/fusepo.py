"""The second stage of FuseRL: preference optimization on the pairs of all sources, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.simpo import Simpo
from fusechat.parts import Loss, RowType

if TYPE_CHECKING:
    import torch


class FusePo(Loss):
    """FusePO: a preference loss on one pair of each source, each with its source's weight.

    `L = (1/W) sum_x sum_i w_i L_base(x, y_w^i, y_l^i)` with `W = sum_x sum_i w_i` over the whole
    global batch: Zhong et al. 2025, FuseRL (arXiv 2504.06562), the FusePO stage. `y_w^i`, `y_l^i`
    are the best and worst responses of source i; its weight `w_i`, a softmax over the sources of
    their best rewards, comes with the row, from the strategy that made it. The paper shows RLOO,
    DPO and SimPO as `L_base`. The equation's number, beta and what the authors divide by were not
    at hand: where the weights of a prompt sum to 1, `W` is the number of prompts, and equal
    weights give the base loss itself.
    """

    consumes: ClassVar[RowType] = "Pair"
    reduction: ClassVar[Literal["rows", "tokens", "weights", "weighted_tokens"]] = "weights"

    base: Literal["dpo", "length_normalized_dpo", "simpo"] = "dpo"
    """The preference loss that is weighted."""
    beta: float | None = Field(default=None, gt=0)
    """The base's beta; null: its default."""
    gamma_beta_ratio: float | None = Field(default=None, ge=0)
    """Of `base: simpo` only: its target margin over its beta; null: its default."""

    @model_validator(mode="after")
    def _gamma_is_simpos(self) -> Self:
        if self.gamma_beta_ratio is not None and self.base != "simpo":
            raise ValueError(f"gamma_beta_ratio belongs to base: simpo, not to {self.base}.")
        return self

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        """Whether the base does."""
        return self._base.needs_reference

    @property
    def _base(self) -> Loss:
        given = {
            name: value
            for name in ("beta", "gamma_beta_ratio")
            if (value := getattr(self, name)) is not None
        }
        classes: dict[str, type[Loss]] = {
            "dpo": Dpo, "length_normalized_dpo": LengthNormalizedDpo, "simpo": Simpo
        }  # fmt: skip
        return classes[self.base](**given)

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each pair before it is weighted, and its metrics, all `[rows]`: the base's."""
        return self._base(logps, lengths, progress)
