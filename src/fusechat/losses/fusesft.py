"""The first stage of FuseRL: weighted supervised fine-tuning on responses of all sources."""

from __future__ import annotations

from typing import ClassVar, Literal

from fusechat.losses.sft import Sft


class FuseSft(Sft):
    """FuseSFT: cross-entropy on the responses of all sources, each with its source's weight.

    `L = -(1/T) sum_x sum_i w_i log pi(y_i | x)` with `T = sum_x sum_i w_i |y_i|` over the whole
    global batch: Zhong et al. 2025, FuseRL (arXiv 2504.06562), the FuseSFT stage. `y_i` is the
    best response of source i and `w_i` its weight, a softmax over the sources of their best
    rewards; weights come with the rows, from the strategy that made them. The equation's number
    and what the authors divide by were not at hand: a mean over weighted tokens is chosen here,
    so that equal weights give the loss `sft`.
    """

    reduction: ClassVar[Literal["rows", "tokens", "weights", "weighted_tokens"]] = "weighted_tokens"
