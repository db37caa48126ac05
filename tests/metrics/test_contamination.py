"""Runs of words and near-duplicates of benchmark items in texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusechat.metrics.contamination import COMMON, HeldOutItems, Item
from fusechat.metrics.words import words_of

QUESTION = (
    "Janet has sixteen ducks that lay eggs each day and she eats three of them for breakfast "
    "before selling the rest at the market"
)


def items(*questions: str, **fields: tuple[str, ...]) -> list[Item]:
    return [Item("bench", str(n), (q,), **fields) for n, q in enumerate(questions)]


def test_a_text_that_says_13_words_of_a_question_in_a_row_matches_it_and_12_do_not() -> None:
    known = HeldOutItems(items(QUESTION), ngram=13, near_duplicate=None)
    words = QUESTION.split()
    thirteen = "Sure! " + " ".join(words[4:17]) + " and so on."
    twelve = "Sure! " + " ".join(words[4:16]) + " and so on."
    (match,) = known.matches(thirteen)
    assert (match.kind, match.runs, match.item.name) == ("run", 1, "0")
    assert match.words == " ".join(words[4:17]).lower()
    assert known.matches(twelve) == []


def test_case_and_marks_do_not_hide_a_run() -> None:
    known = HeldOutItems(items(QUESTION), near_duplicate=None)
    shouted = ", ".join(QUESTION.upper().split())
    (match,) = known.matches(shouted)
    assert match.runs == len(QUESTION.split()) - 12


def test_a_short_question_is_matched_only_by_the_very_same_words() -> None:
    known = HeldOutItems(items("What is the capital of Peru?"), near_duplicate=None)
    assert known.matches("what is the capital of peru")
    assert known.matches("Well, what is the capital of Peru?") == []


def test_a_run_of_few_different_words_tells_nothing() -> None:
    zeros = " ".join(["0"] * 30)
    known = HeldOutItems(items(f"Sum these: {zeros}"), near_duplicate=None)
    assert known.matches(f"Here are zeros: {zeros}") == []


def test_a_loop_that_every_program_has_tells_nothing_and_a_telling_line_does() -> None:
    loop = "for i in range(1, m + 1): for j in range(1, n + 1):"
    line = "def min_cost(cost, m, n): total = [[0 for x in range(columns)] for y in range(rows)]"
    item = Item("mbpp", "1", ("Find the least cost.",), (f"{loop} x = 1", line))
    known = HeldOutItems([item], near_duplicate=None)
    assert known.matches(f"Here is my program. {loop} pass") == []
    assert known.matches(f"Here is my program. {line}")


def test_a_run_that_many_items_of_one_benchmark_share_is_its_instruction_and_matches_none() -> None:
    intro = "You will be given a question and must answer with one correct Python program that"
    shared = [f"{intro} solves the task of {name * 3}" for name in "abcdefghij"[:COMMON]]
    known = HeldOutItems(items(*shared), near_duplicate=None)
    assert known.common == len(intro.split()) + 4 - 12  # four more words are the same in all
    assert known.matches(intro + " sings") == []
    few = HeldOutItems(items(*shared[: COMMON - 1]), near_duplicate=None)
    assert few.common == 0
    assert few.matches(intro + " sings")


def test_a_short_answer_is_never_looked_for_and_a_long_one_by_its_runs() -> None:
    answers = ("18", " ".join(f"w{n}" for n in range(20)))
    known = HeldOutItems([Item("bench", "0", ("A question?",), answers)], near_duplicate=None)
    assert known.matches("18") == []
    (match,) = known.matches(" ".join(f"w{n}" for n in range(3, 16)))
    assert match.runs == 1


def test_a_near_duplicate_shares_the_given_part_of_its_word_ngrams() -> None:
    # 20 words have 16 five-grams; one new last word changes 1 of them: 15 / 17 are shared.
    words = [f"w{n}" for n in range(20)]
    known = HeldOutItems(items(" ".join(words)), ngram=25, near_duplicate=15 / 17)
    (match,) = known.matches(" ".join([*words[:19], "other"]))
    assert (match.kind, match.runs) == ("near_duplicate", 0)
    assert abs(match.jaccard - 15 / 17) < 1e-12
    # A new word in the middle changes 5: 11 / 21.
    assert known.matches(" ".join([*words[:10], "other", *words[11:]])) == []


def test_of_each_benchmark_the_item_with_most_runs_is_told() -> None:
    longer = [f"w{n}" for n in range(30)]
    both = [Item("a", "short", (" ".join(longer[:14]),)), Item("a", "long", (" ".join(longer),))]
    other = Item("b", "x", (" ".join(longer[:13]),))
    found = HeldOutItems([*both, other], near_duplicate=None).matches(" ".join(longer))
    assert [(m.item.benchmark, m.item.name, m.runs) for m in found] == [
        ("a", "long", 18), ("b", "x", 1)]  # fmt: skip


def test_without_items_nothing_matches_and_no_text_is_too_short() -> None:
    assert HeldOutItems([]).matches("anything at all") == []
    assert HeldOutItems(items(QUESTION)).matches("") == []


WORDS = st.lists(st.sampled_from([*(f"w{n}" for n in range(10)), "i", "7", "42"]), max_size=40)


@given(WORDS, WORDS, st.integers(3, 8))
def test_runs_are_found_just_where_a_plain_search_finds_them(
    question: list[str], text: list[str], length: int
) -> None:
    known = HeldOutItems(items(" ".join(question)), ngram=length, near_duplicate=None)
    found = known.matches(" ".join(text))
    assert [m.runs for m in found] == ([n] if (n := _shared(question, text, length)) else [])


def _shared(question: list[str], text: list[str], length: int) -> int:
    def runs(words: list[str]) -> set[tuple[str, ...]]:
        if len(words) < length:
            return {tuple(words)} if words else set()
        every = {tuple(words[n : n + length]) for n in range(len(words) - length + 1)}
        telling = {word for word in words if not word.isdigit() and len(word) > 1}
        return {run for run in every if len({*run} & telling) >= min(5, length)}

    assert words_of(" ".join(text)) == text
    return len(runs(question) & runs(text))
