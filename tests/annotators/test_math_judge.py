"""Verdicts on pairs of a gold answer and a stated answer; nothing wrong is ever called equal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.annotators._math_extract import final_answer, gold_answer
from fusechat.annotators._math_judge import MathJudge, compare, math_judge
from fusechat.annotators._math_numbers import same_number
from fusechat.annotators._math_reading import read

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def judge() -> Iterator[MathJudge]:
    with math_judge(30.0, 1) as made:
        yield made


@pytest.fixture(scope="module")
def impatient() -> Iterator[MathJudge]:
    with math_judge(1.5, 1) as made:
        yield made


NUMBERS = st.one_of(
    st.integers(-(10**13), 10**13).map(str),
    st.integers(-1000, 1000).map(str),
    st.integers(-(10**11), 10**11).map(lambda n: f"{n:,}"),
    st.decimals(-1000, 1000, places=2).map(str),
    st.decimals(-2, 2, places=6).map(lambda d: format(d, "f")),
    st.integers(0, 99).map(lambda n: f"{n}.0"),
    st.integers(0, 99).map(lambda n: f"00{n}"),
)


@given(NUMBERS, NUMBERS)
@settings(max_examples=150, deadline=None)
def test_the_fast_path_says_what_math_verify_says(gold: str, answer: str) -> None:
    slow = compare(read(gold).query, read(answer).query)
    assert same_number(gold, answer) == (slow == "equal")


EQUAL = [
    ("1000", "1 000"), ("1000000", "1 000 000"), ("1000000", r"1\,000\,000"), ("1234", "1{,}234"),
    ("5, 6", "5 or 6"), ("5 and 6", "6, 5"), ("19, 46, and 82", r"19, 46, \text{ and } 82"),
    ("x=5 or x=6", r"\{5, 6\}"), ("p=5,q=2;p=7,q=2", r"p = 5, q = 2 \text{ and } q = 2, p = 7"),
    ("1e2", "100"), ("5.5", "5 1/2"), ("120", "5!"), ("5,000,000", "5 million"), ("5", "5, not 6"),
    ("$5", "5 dollars"), ("1/2", r"\frac{1}{2} or 0.5"), ("0.5", "0.5 or 50%"),
    ("1/3", r"\frac13 or 0.33"), ("7", "<<3+4=7>>7"), ("90^\\circ", "90 degrees"),
    ("50%", "50 percent"),
    (r"\frac10", r"\frac10"),
    (r"\text{1:03 PM}", "1:03 PM"), ("not possible", r"\text{not possible}"), ("???x", "???x"),
    ("x<2 or x>5", r"x<2 \text{ or } x>5"), (r"\sin x", "sin(x)"), ("9" * 6000, "9" * 6000),
    (r"\frac{12}{5,\!525}", r"\frac{12}{5525}"), ("204_5", "204_{5}"), ("5", "I get 5 in all"),
    (r"\begin{pmatrix}4\-3\end{pmatrix}", r"\begin{pmatrix} 4 \\ -3 \end{pmatrix}"),
]  # fmt: skip

UNEQUAL = [
    ("5", "5 or 6"), ("6", "5 or 6"), ("5", "5, 6"), ("6", "5; 6"), ("5, 6", "5"),
    ("5", r"\{5, 6\}"), ("5", "x=5, y=6"), ("5", "-5 or 5"), ("5", r"\pm 5"),
    ("5", "$5$ or $6$"), ("5", "$5$, $6$"),
    ("5", "5 apples and 6 pears"), ("5", "It is not 5"), ("5", "not 5"), ("5", "5 is wrong"),
    ("5", "anything but 5"), ("5", r"\neq 5"), ("5", r"\neg 5"), ("5", r"\text{not } 5"),
    ("5", "5!"),
    ("5", "x > 5"), ("5", "> 5"), ("5", "5 squared"), ("5", "5 million"), ("2", "2xy"),
    ("2", "2 dozen"),
    ("5", "more than 5"), ("5", "between 5 and 6"), ("5", "5 to 6"), ("5", "5 hours 30 minutes"),
    ("5 m", "5 km"), ("5 dollars", "5 cents"), (r"5\text{ cm}", r"5\text{ m}"), ("5 kg", "5 km"),
    ("11_2", "11_3"), ("12", "1,2"), ("12", "1 2"), ("12", "1, 2"), ("2", "1 2"), ("1.22", "1,22"),
    ("1,22", "1.22"), ("1000000", "1 000 00"), ("1000", "10 00"), ("0.0000001", "0.0000002"),
    (r"x<2 \text{ or } x>5", r"x<2 \text{ and } x>5"), ("x<2 or x>5", "x<2 and x>5"),
    ("p=5,q=2;p=7,q=2", "p=5,q=2;p=7,q=3"), ("p=5,q=2;p=7,q=2", "p=5,q=7;p=2,q=2"), ("1/2", "2/1"),
    ("x^2", "x2"), ("x_2", "x^2"), ("10^{100}", "10^{100}+1"), ("5", "5.0000001"),
    ("3.5", "3 and 1/2"),
    ("east", "west"), ("no one", "one"), ("5", "5i"), ("5", "5x"), ("5", ""), ("Evelyn", "Eve"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal_answers_are_judged_equal_both_ways(judge: MathJudge, gold: str, answer: str) -> None:
    assert judge.verdict(gold, answer).equal is True
    assert judge.verdict(answer, gold).equal is True


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_different_answers_are_never_judged_equal(judge: MathJudge, gold: str, answer: str) -> None:
    assert judge.verdict(gold, answer).equal is not True
    assert judge.verdict(answer, gold).equal is not True


VALUES = st.one_of(
    st.integers(-99, 99).map(str),
    st.integers(-(10**6), 10**6).map(lambda n: f"{n:,}".replace(",", " ")),
    st.lists(st.integers(-9, 9).map(str), min_size=2, max_size=3, unique=True).map(" or ".join),
    st.lists(st.integers(-9, 9).map(str), min_size=2, max_size=3, unique=True).map(", ".join),
    st.tuples(st.integers(1, 9), st.integers(2, 9)).map(lambda t: rf"\frac{{{t[0]}}}{{{t[1]}}}"),
)


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_equality_of_numbers_and_lists_is_symmetric(
    judge: MathJudge, left: str, right: str
) -> None:
    assert judge.verdict(left, left).equal is True
    assert judge.verdict(left, right).equal == judge.verdict(right, left).equal


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("B", "(B) 5 cm", True),
        ("B", "B) 12", True),
        ("(B)", r"\textbf{(B) }12", True),
        ("B", "B、12", True),
        ("B", "(C) 5 cm", False),
        ("A", "(A) 5 and (B) 6", False),
        ("A", "A) or B)", False),
        ("5", "(B) 5 cm", True),
    ],
)
def test_an_option_named_with_what_it_says_is_that_option_alone(
    judge: MathJudge, gold: str, answer: str, equal: bool
) -> None:
    assert (judge.verdict(gold, answer).equal is True) == equal


@pytest.mark.parametrize(
    ("gold", "answer"),
    [(r"2\sqrt{3}", "2√3"), (r"\sqrt{12}", "√(12)"), ("x^4", "x⁴"), (r"\frac{1}{3}", "⅓")],
)
def test_signs_of_unicode_are_judged_as_their_latex(
    judge: MathJudge, gold: str, answer: str
) -> None:
    assert judge.verdict(gold, answer).equal is True


@pytest.mark.parametrize(
    ("answer", "status", "equal"),
    [
        ("她每天赚18美元", "ok", True),
        ("她每天赚19美元", "ok", False),
        ("一共有18个苹果和3个梨", "unscorable", None),
        ("约是18", "unscorable", None),
        ("百分之18", "unscorable", None),
        ("十八", "unscorable", None),
    ],
)
def test_a_chinese_sentence_is_judged_by_its_one_number_and_not_guessed_from_more(
    judge: MathJudge, answer: str, status: str, equal: bool | None
) -> None:
    verdict = judge.verdict("18", answer)
    assert (verdict.status, verdict.equal) == (status, equal)


@pytest.mark.parametrize(
    ("gold", "stated", "status", "reason"),
    [
        ("", "5", "unscorable", "no gold answer"),
        ("5", None, "ok", "no final answer"),
        ("x+1", None, "ok", "no final answer"),
        ("x+1", "It is not 5", "ok", "no final answer"),
        ("5", "It is not 5", "ok", "no final answer"),
        ("5", "???", "ok", "final answer cannot be parsed"),
        ("???", "5", "unscorable", "gold answer cannot be parsed"),
        ("???", None, "unscorable", "gold answer cannot be parsed"),
        ("between 5 and 6", "5", "unscorable", "gold answer holds several values"),
        ("5 squared", "25", "unscorable", "gold answer in words"),
        ("5", "between 5 and 6", "unscorable", "final answer holds several values"),
        ("7", "seven", "unscorable", "final answer in words"),
        ("x+1", "y" * 6000, "unscorable", "final answer too long to judge"),
        ("y" * 6000, "5", "unscorable", "gold answer too long to judge"),
        ("5 m", "5 km", "ok", "not equal (other unit)"),
        ("05:00", "5:01", "error", "math-verify raised ValueError"),
    ],
)
def test_a_verdict_says_why(
    judge: MathJudge, gold: str, stated: str | None, status: str, reason: str
) -> None:
    verdict = judge.verdict(gold, stated)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert (verdict.equal is None) == (status != "ok")


@pytest.mark.parametrize(
    "answer",
    [
        "9^9^9^9", "10^{10^{10}}", "((((10!)!)!)!)!", "1" * 1_000_000, "five " * 200_000,
        "(" * 10_000 + "5" + ")" * 10_000, "{" * 10_000 + "5" + "}" * 10_000,
        r"\frac{1}{" * 10_000 + "2" + "}" * 10_000, r"\sqrt{" * 400 + "1" + "}" * 400,
        "5\x006", "\x1b[31m6", "\ud8006", "5\ud800 or 6", r"\boxed{" * 5000, "6" + "\x00" * 100_000,
    ],
    ids=["tower", "braced tower", "factorials", "digits", "text", "parentheses", "braces",
         "fractions", "roots", "nul", "escape", "surrogate", "surrogates", "boxes", "nuls"],
)  # fmt: skip
def test_hostile_answers_neither_hang_nor_count_as_right(impatient: MathJudge, answer: str) -> None:
    verdict = impatient.verdict("5", answer)
    assert (verdict.status, verdict.equal) in [
        ("ok", False), ("error", None), ("unscorable", None),
    ]  # fmt: skip
    assert verdict.reason


KNOWN_TO_DIFFER = {("1,22", "1.22"), ("1000.99", "1000,99")}
"""A decimal comma, which may as well be the comma of a list or of thousands."""


def cases(shared_data: Path) -> list[dict[str, object]]:
    lines = (shared_data / "math" / "math_equivalence_cases.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_equivalence_cases_are_judged_as_labelled_but_for_those_listed(
    judge: MathJudge, shared_data: Path
) -> None:
    """Labels of Math-Verify, lighteval, NeMo-Skills, hendrycks/math and by hand."""
    other, total = set(), 0
    for case in cases(shared_data):
        gold, pred = str(case["gold"]), str(case["pred"])
        verdict = judge.verdict(gold, final_answer(rf"\boxed{{{pred}}}"))
        total += 1
        assert verdict.status == "ok", (gold, pred, verdict)
        assert case["equal"] or not verdict.equal, (gold, pred)
        if verdict.equal != case["equal"]:
            other.add((gold, pred))
    assert (total, other) == (132, KNOWN_TO_DIFFER)


def labels(shared_data: Path, name: str) -> list[str]:
    if name == "math_train":
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(shared_data / "train" / "math_train.parquet").to_pylist()
        return [row["reward_model"]["ground_truth"]["target"] for row in rows]
    folder = "train" if name.endswith("train") else "math"
    lines = (shared_data / folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


WITHOUT_A_VERDICT = {"", r"2007+\frac{\}{p}i2"}
"""Labels of MATH that no response can equal: an empty one, and one whose braces do not match."""


def self_verdicts(judge: MathJudge, golds: list[str]) -> set[str]:
    """The labels that are not equal to themselves, stated in a box."""
    found = set()
    for gold in dict.fromkeys(golds):
        stated = gold if "####" in gold else rf"so it is $\boxed{{{gold}}}$."
        if not judge.verdict(gold_answer(gold), final_answer(stated)).equal:
            found.add(gold)
    return found


@pytest.mark.parametrize(
    ("name", "count"),
    [("gsm8k_test", 1319), ("gsm8k_train", 7473), ("math_test", 5000), ("math_train", 7500)],
)
def test_every_gold_answer_is_equal_to_itself(
    judge: MathJudge, shared_data: Path, name: str, count: int
) -> None:
    golds = labels(shared_data, name)
    assert len(golds) == count
    assert self_verdicts(judge, golds) <= WITHOUT_A_VERDICT


def mathematically(judge: MathJudge, golds: list[str]) -> dict[str, str]:
    """Labels that math-verify does not call equal to themselves, with what it says."""
    found = {}
    for gold in dict.fromkeys(golds):
        query = read(gold_answer(gold)).query
        outcome = judge._ask(query, query).result() if query else None
        if outcome is None or outcome.value != "equal":
            found[gold] = outcome.value or outcome.reason if outcome else "not asked"
    return found


def test_a_sample_of_math_labels_can_be_compared_and_not_only_recognised(
    judge: MathJudge, shared_data: Path
) -> None:
    golds = labels(shared_data, "math_test")[::16]
    assert len(golds) == 313
    assert mathematically(judge, golds) == {}


@pytest.mark.slow
def test_all_math_labels_but_seven_can_be_compared_and_not_only_recognised(
    judge: MathJudge, shared_data: Path
) -> None:
    golds = labels(shared_data, "math_test") + labels(shared_data, "math_train")
    assert set(mathematically(judge, golds)) == {
        *WITHOUT_A_VERDICT, r"\text{1:03 PM}", "{A5}_{11}", "05:00", "125normal{miles}", r"\sin^2t",
        r"\begin{pmatrix}1&-1\1&\phantom-1\end{pmatrix}",
    }  # fmt: skip
