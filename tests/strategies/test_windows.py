"""Windows in other units than raw scores: what they become, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusechat.errors import PartError
from fusechat.parts import Groups, Refusal
from fusechat.strategies.correct_over_incorrect import CorrectOverIncorrect
from fusechat.strategies.same_source_margin import SameSourceMargin

GAPS = np.array([0.4, 0.0, 0.1, 0.3, 0.2])


def test_quantiles_become_the_gaps_at_them() -> None:
    # Sorted 0, .1, .2, .3, .4: the quarter is .1, three quarters .3, 0.6 lies 0.4 of the way
    # from .2 to .3.
    given = SameSourceMargin(by="rm", window="quantiles", min_margin=0.25, max_margin=0.6)
    found = given.resolved(GAPS, deviation=9.0)
    assert (found.window, found.min_margin) == ("raw", pytest.approx(0.1))
    assert found.max_margin == pytest.approx(0.24)


def test_z_scores_become_multiples_of_the_deviation() -> None:
    given = SameSourceMargin(by="rm", window="z_scores", min_margin=0.5, max_margin=2)
    found = given.resolved(GAPS, deviation=0.3)
    assert (found.window, found.min_margin, found.max_margin) == ("raw", 0.15, 0.6)


def test_no_bound_stays_none_and_a_raw_window_stays_as_it_is() -> None:
    given = SameSourceMargin(by="rm", window="quantiles", min_margin=None, max_margin=1)
    assert given.resolved(GAPS, 1).min_margin is None
    raw = SameSourceMargin(by="rm")
    assert raw.resolved(GAPS, 1) is raw


def test_an_unresolved_window_picks_nothing_silently(make_group: Any) -> None:
    given = SameSourceMargin(by="rm", window="quantiles", min_margin=0, max_margin=1)
    group = make_group(gemma=[{"rm": 0.2}, {"rm": 0.1}])
    with pytest.raises(PartError, match="in quantiles"):
        given.select(group)
    with pytest.raises(PartError, match="in quantiles"):
        given.select_all(Groups.of([group]))
    assert not isinstance(given.resolved(np.array([0.1]), 1).select(group), Refusal)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"window": "quantiles", "min_margin": 0.1, "max_margin": 1.5}, "max_margin", "0 to 1"),
        ({"window": "quantiles", "min_margin": -0.1, "max_margin": 1}, "min_margin", "0 to 1"),
        ({"window": "quantiles", "min_margin": 0.9, "max_margin": 0.1}, "min_margin", "is above"),
        ({"window": "z_scores", "min_margin": 2, "max_margin": 1}, "min_margin", "is above"),
        ({"window": "z_scores", "min_margin": 1}, "max_margin", "default is in raw units"),
        ({"window": "quantiles", "max_margin": 1}, "min_margin", "default is in raw units"),
        ({"window": "z_scores", "min_margin": -1, "max_margin": 1}, "min_margin", "never negative"),
        ({"window": "quantiles", "min_margin": None, "max_margin": None}, "window", "does nothing"),
    ],
)
def test_a_window_that_cannot_be_meant_is_a_fault(
    settings: dict[str, Any], key: str, words: str
) -> None:
    (fault,) = SameSourceMargin(by="rm", **settings).faults()
    assert fault[0] == key
    assert words in fault[1]


def test_a_window_of_scores_needs_scores() -> None:
    given = CorrectOverIncorrect(
        by=None, correct_by="ok", window="quantiles", min_margin=None, max_margin=0.9
    )
    assert any(key == "window" and "by: null" in words for key, words in given.faults())


def test_the_defaults_of_the_new_settings_keep_the_old_keys() -> None:
    assert SameSourceMargin(by="rm", window="raw", allow_narrow_window=False).key() == (
        SameSourceMargin(by="rm").key()
    )
    assert SameSourceMargin(by="rm").key()["settings"] == {"by": "rm"}
