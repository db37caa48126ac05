"""WRPO: its limits at alpha 0 and 1, its schedule, and its scale."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.loss_inputs import Inputs, rows_of

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.wrpo import Wrpo
from fusechat.parts import load_part


def _as_pair(chosen: str, inputs: Inputs) -> Inputs:
    logps, lengths = inputs
    sides = {"chosen": chosen, "rejected": "rejected"}
    named = {f"{kind}{s}": logps[f"{kind}{of}"] for s, of in sides.items() for kind in KINDS}
    return named, {side: lengths[of] for side, of in sides.items()}


KINDS = ("", "reference_")


def test_the_loss_of_a_triple_worked_by_hand() -> None:
    # Log-ratios 4, 1 and -2; alpha 0.5, beta 0.2: 0.2 * (0.5 * 4 + 0.5 * 1 + 2) = 0.9.
    names = ("source_chosen", "target_chosen", "rejected")
    logps = {n: torch.tensor([v]) for n, v in zip(names, (-6.0, -4.0, -9.0), strict=True)}
    logps |= {
        f"reference_{n}": torch.tensor([v]) for n, v in zip(names, (-10.0, -5.0, -7.0), strict=True)
    }
    lengths = {n: torch.tensor([count]) for n, count in zip(names, (8, 2, 4), strict=True)}
    loss = Wrpo(alpha=0.5, schedule="constant", beta=0.2)
    losses, metrics = loss(logps, lengths, 0.0)
    assert losses.item() == pytest.approx(math.log1p(math.exp(-0.9)), rel=1e-6)
    found = {name: pytest.approx(value.item(), abs=1e-6) for name, value in metrics.items()}
    assert found == {
        "rewards_chosen": 0.5, "rewards_rejected": -0.4, "margins": 0.9, "accuracies": 1.0,
        "rewards_source_chosen": 0.8, "rewards_target_chosen": 0.2, "alpha": 0.5,
        # The target's own: 1/2 + 2/4 nats of a token.
        "normalized_margins": 1.0, "normalized_accuracies": 1.0,
    }  # fmt: skip
    # Per token: 4/8, 1/2 and -2/4, all 0.5 in size: 0.2 * (0.5 + 0.5) = 0.2.
    per_token = loss.model_copy(update={"length_normalized": True})
    assert per_token(logps, lengths, 0.0)[1]["margins"].item() == pytest.approx(0.2)


@pytest.mark.parametrize(("alpha", "chosen"), [(0.0, "target_chosen"), (1.0, "source_chosen")])
@pytest.mark.parametrize("normalized", [False, True])
def test_at_alpha_0_and_1_it_is_dpo_on_the_target_or_the_source(
    alpha: float, chosen: str, normalized: bool
) -> None:
    loss = Wrpo(alpha=alpha, schedule="constant", beta=0.05, length_normalized=normalized)
    inputs = rows_of(loss)
    plain = (LengthNormalizedDpo if normalized else Dpo)(beta=0.05)
    expected, metrics = plain(*_as_pair(chosen, inputs), 0.4)
    losses, ours = loss(*inputs, 0.4)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    for name in ("rewards_chosen", "rewards_rejected", "margins", "accuracies"):
        torch.testing.assert_close(ours[name], metrics[name])


def test_alpha_rises_in_a_line_from_0_to_alpha_or_stays() -> None:
    steps = [0.0, 0.25, 0.5, 1.0]
    assert [Wrpo(alpha=0.4).alpha_at(t) for t in steps] == pytest.approx([0, 0.1, 0.2, 0.4])
    constant = Wrpo(alpha=0.4, schedule="constant")
    assert {constant.alpha_at(t) for t in steps} == {0.4}
    inputs = rows_of(Wrpo())
    first = Wrpo(alpha=0.4)(*inputs, 0.0)
    assert torch.equal(first[0], Wrpo(alpha=0.0)(*inputs, 0.7)[0])
    assert torch.equal(Wrpo(alpha=0.4)(*inputs, 1.0)[0], constant(*inputs, 0.3)[0])
    assert first[1]["alpha"].tolist() == [0.0] * 6


def test_lengthening_a_response_at_the_same_log_ratio_of_a_token_changes_only_the_summed_form() -> (
    None
):
    def changes(loss: Wrpo) -> bool:
        logps, lengths = rows_of(loss)
        side = "source_chosen"
        twice = {
            **logps,
            side: 2 * logps[side],
            f"reference_{side}": 2 * logps["reference_" + side],
        }
        longer = {**lengths, side: 2 * lengths[side]}
        return not torch.allclose(loss(logps, lengths, 1.0)[0], loss(twice, longer, 1.0)[0])

    assert not changes(Wrpo(alpha=0.5, length_normalized=True))
    assert changes(Wrpo(alpha=0.5))


def test_it_learns_from_triples_with_a_reference_and_the_defaults_are_the_authors() -> None:
    found = load_part("losses", {"use": "wrpo"})
    assert found == Wrpo(alpha=0.1, beta=0.01, schedule="dynamic", length_normalized=False)
    assert Wrpo().sides == ("source_chosen", "target_chosen", "rejected")
    assert Wrpo.needs_reference
