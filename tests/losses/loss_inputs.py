"""Random log-probabilities and lengths for the losses under test."""

from __future__ import annotations

import torch

from fusechat.parts import Loss

Inputs = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


def rows_of(loss: Loss, rows: int = 6, seed: int = 0, sources: int = 3) -> Inputs:
    """Random inputs of any loss, float64: policy and reference differ by up to 1 nat a token.

    Some sources gave no value; the last row has none at all.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    logps, lengths = {}, {}
    for side in loss.sides:
        tokens = torch.randint(1, 40, (rows,), generator=generator)
        lengths[side] = tokens
        logps[side] = -(1 + draw(rows)) * tokens
        logps[f"reference_{side}"] = -(1 + draw(rows)) * tokens
        if loss.needs_sources:
            own = torch.randint(1, 60, (rows, sources), generator=generator)
            logps[f"sources_{side}"] = -(1 + 2 * draw(rows, sources)) * own
            logps[f"sources_{side}"][0, 1:] = torch.nan
            logps[f"sources_{side}"][-1] = torch.nan
            lengths[f"sources_{side}"] = own * ~logps[f"sources_{side}"].isnan()
    return logps, lengths
