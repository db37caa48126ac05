"""LiveBench's reasoning and language tasks: what counts as stated, and partial marks."""

from __future__ import annotations

import pytest

from fusechat.annotators import _live_language as language
from fusechat.annotators import _live_reasoning as reasoning
from live_cases import question


@pytest.mark.parametrize(
    ("truth", "response", "value"),
    [
        ("3", "It is **3**.", 1.0), ("3", "It is **three**.", 1.0), ("3", "It is 3.", 0.0),
        ("3", "**3** then **a** then **b**", 1.0), ("3", "**3**, **a**, **b**, **c**", 0.0),
        ("3", r"\boxed{3}", 1.0), ("3", "**4**, \\boxed{3}", 1.0), ("3", "**13**", 0.0),
        ("triangle", "**an equilateral triangle**", 0.0),  # 23 characters: too long
        ("triangle", "**equilateral triangle**", 1.0), ("tetrahedra", "**two tetrahedra**", 1.0),
        ("circle", "**a circle**", 0.0), ("3", "", 0.0),
    ],
)  # fmt: skip
def test_one_of_the_last_three_bold_texts_is_the_shape_or_number(
    truth: str, response: str, value: float
) -> None:
    assert reasoning.spatial(question("spatial", truth), response).value == value


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("**yes, no, yes**", 1.0), ("**Yes, No, Yes**", 1.0), ("yes, no, yes", 0.0),
        ("**The answer: yes, no, yes.**", 1.0), ("**yes, no, no**", 0.0),
        ("**yes**, **no**, **yes**", 0.0),
        ("**yes, no, yes** I **think**", 0.0),  # only the last bold text is read
        ("**yes, no, yes, yes**", 0.0), ("**I know: yes, no, yes**", 0.0),  # `know` holds a no
        ("**yes,\nno, yes**", 0.0), ("", 0.0),
    ],
)  # fmt: skip
def test_three_words_in_the_last_bold_text_are_the_answers(response: str, value: float) -> None:
    assert (
        reasoning.web_of_lies(question("web_of_lies_v2", "yes, no, yes"), response).value == value
    )


@pytest.mark.parametrize(
    ("truth", "response", "value"),
    [
        ("2", "***2***", 1.0), ("two", "***2***", 1.0), ("2", "***two***", 0.0),
        ("2", "So it is 2.", 1.0),
        ("reggae", "***Reggae***", 1.0), ("spy movies", "***spy***", 1.0), ("2", "***3*** 2", 0.0),
        ("reggae", "**reggae**", 1.0), ("reggae", "", 0.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("corrected", [True, False])
def test_a_puzzle_is_answered_between_three_stars_or_by_the_last_word(
    truth: str, response: str, value: float, corrected: bool
) -> None:
    asked = question("zebra_puzzle", truth, release="2024-06-24", corrected=corrected)
    assert reasoning.zebra_puzzle(asked, response).value == value


@pytest.mark.parametrize("truth", ["security-guard", "d&b", "fantasy movies"])
def test_the_rules_of_2024_refuse_a_word_with_a_hyphen_and_the_corrected_do_not(truth: str) -> None:
    for corrected in (True, False):
        asked = question("zebra_puzzle", truth, release="2024-06-24", corrected=corrected)
        assert reasoning.zebra_puzzle(asked, f"***{truth}***").value == float(corrected)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("<solution>1, tea, cat, police officer</solution>", 1.0),
        ("<solution>1, tea, cat, baker</solution>", 0.375),  # (0 + 3/4) / 2
        ("<solution>9, tea, cat, baker</solution>", 0.25),
        (r"\boxed{\text{1, tea, cat, police-officer}}", 1.0), ("1, tea, cat, police-officer", 1.0),
        ("<solution>1, tea</solution> <solution>cat, police-officer</solution>", 1.0),
        ("no idea", 0.0),
    ],
)  # fmt: skip
def test_later_puzzles_are_answered_in_tags_with_half_for_all_and_half_for_the_share(
    response: str, value: float
) -> None:
    asked = question("zebra_puzzle", "1, tea, cat, police-officer", release="2024-11-25")
    assert reasoning.zebra_puzzle(asked, response).value == value


WORDS = "a, b, c, d, E, f, g, h"


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("**a, b, c, d, e, f, g, h**", 1.0), ("**h, g, f, e, d, c, b, A**", 1.0),
        ("**a, b, c, d, e, f, g, x**", 0.5), ("**a, b, c, e, d, f, g, h**", 0.0),
        ("**a, b, c, d** and **e, f, g, h**", 0.5), ("a, b, c, d, e, f, g, h", 0.0), ("", 0.0),
    ],
)  # fmt: skip
def test_connections_are_marked_by_the_share_of_groups_in_one_bold_list(
    response: str, value: float
) -> None:
    asked = question("connections", WORDS, release="2024-06-24")
    assert language.connections(asked, response).value == value


def test_later_connections_are_answered_in_tags() -> None:
    asked = question("connections", WORDS, release="2024-11-25")
    tagged = "<solution>a, b, c, d,\ne, f, x, h</solution>"
    assert language.connections(asked, tagged).value == 0.5
    assert language.connections(asked, r"\boxed{\text{a, b, c, d, e, f, g, h}}").value == 1.0
    assert language.connections(asked, "**a, b, c, d, e, f, g, h**").value == 0.0


PLOT = "A king dies. His son flees. A lion grows up. He comes back."


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (PLOT, 1.0), (f"Well. Sure.\n<PLOT_SUMMARY>{PLOT}", 1.0),
        ("His son flees. A king dies. A lion grows up. He comes back.", 0.5),  # order 1 0 2 3
        ("A king dies.", 0.25),  # all four are likest to it: order 0 0 0 0
        ("", 0.0),
    ],
)  # fmt: skip
def test_a_plot_is_marked_by_the_edit_distance_of_its_order(response: str, value: float) -> None:
    assert language.plot_unscrambling(question("plot_unscrambling", PLOT), response).value == value


def test_typos_are_looked_for_in_the_last_line_only() -> None:
    asked = question("typos", "We study graphs.")
    assert language.typos(asked, "Here:\n\nWe study graphs.\n").value == 1.0
    assert language.typos(asked, "We study graphs.\nI hope this helps.").value == 0.0
    assert language.typos(asked, "").value == 0.0
