"""IFEval's 25 kinds of instruction, each followed and not; its counts; what cannot be judged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators import _ifeval_checks as checks
from fusechat.annotators import _ifeval_text as texts
from fusechat.annotators._ifeval_livebench import score as livebench
from fusechat.annotators.ifeval import IfEval
from fusechat.parts import Where, load_part
from fusechat.records import Candidate, Finish, Prompt, Request, Score

LANGUAGE = pytest.mark.skipif(
    importlib.util.find_spec("langdetect") is None, reason="langdetect is not installed"
)
GERMAN = "Der Hund läuft durch den Wald und freut sich über das schöne Wetter am Morgen."
ENGLISH = "the dog runs through the forest and is happy about the lovely weather this morning"

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    (
        "keywords:existence", {"keywords": ["cat", "dog"]},
        ["A Cat and a DOG.", "concatenated hotdogs"], ["A cat.", "c at dog"],
    ),
    (
        "keywords:frequency", {"keyword": " Cat ", "frequency": 2, "relation": "at least"},
        ["cat CAT", "catcat"], ["a cat", "dogs"],
    ),
    (
        "keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"},
        ["one cat", "dogs"], ["cat cat"],
    ),
    (
        "keywords:forbidden_words", {"forbidden_words": ["cat", "dog"]},
        ["concatenated hotdogs", "a bird"], ["No CAT.", "a dog!"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "Q", "let_frequency": 2, "let_relation": "at least"},
        ["Quick quiz", "qq"], ["quick"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"}, ["# one"], ["## two"],
    ),
    (
        "length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"},
        ["One. Two.", "one\ntwo\nthree"], ["One. Two! Three?"],
    ),
    (
        "length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"},
        ["He left. She stayed."], ["Mr. Smith stayed"],
    ),
    (
        "length_constraints:number_paragraphs", {"num_paragraphs": 2},
        ["one\n***\ntwo", "***\none\n***\ntwo\n***"],
        ["one\n\ntwo", "one\n***\n\n***\ntwo", "a *** b *** c"],
    ),
    (
        "length_constraints:number_words", {"num_words": 3, "relation": "at least"},
        ["one two three", "don't stop"], ["one, two"],
    ),
    (
        "length_constraints:number_words", {"num_words": 3, "relation": "less than"},
        ["one two"], ["one two three"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Hence"},
        ["one\n\nhence, two", "one\n\n\"Hence two", "one\n\nHENCE\n\n"],
        ["one\n\nthen two", "hence\n\ntwo", "one\n\nhence\n\nthree", "one\n\n\n\nhence"],
    ),
    (
        "detectable_content:number_placeholders", {"num_placeholders": 2},
        ["[name] at [address]", "[] []"], ["[name]", "[name\n] at [address]"],
    ),
    (
        "detectable_content:postscript", {"postscript_marker": "P.S."},
        ["Bye.\nP.S. Write", "p. s. yes"], ["Bye. PS: no", "P.S no"],
    ),
    (
        "detectable_content:postscript", {"postscript_marker": "P.P.S"},
        ["Bye.\np. p. s more", "P.P.S. more"], ["P.S. only"],
    ),
    (
        "detectable_content:postscript", {"postscript_marker": "N.B."}, ["n.b. so"], ["nxb. so"],
    ),
    (
        "detectable_format:number_bullet_lists", {"num_bullets": 2},
        ["* one\n* two", "- one\n  * two"], ["* one", "* a\n* b\n* c", "* a\n* b\n---"],
    ),
    (
        "detectable_format:constrained_response", {},
        ["My answer is maybe.", "Well. My answer is no. Sorry."], ["my answer is no.", "Yes."],
    ),
    (
        "detectable_format:number_highlighted_sections", {"num_highlights": 2},
        ["*one* and *two*", "**one**x**two**"],
        ["*one*", "**both**", "** ** *a*", "*a\nb* *c*"],
    ),
    (
        "detectable_format:multiple_sections", {"section_spliter": "Section ", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section1 Section2 Section3"],
        ["Section 1\na", "section 1 section 2"],
    ),
    (
        "detectable_format:json_format", {},
        ['{"a": 1}', '```json\n[1, 2]\n```', "```JSON 3```"],
        ["{a: 1}", 'Here: {"a": 1}', "```yaml\n1\n```"],
    ),
    (
        "detectable_format:title", {},
        ["<<joy>>", "x <<<joy>>> y"], ["<joy>", "<<  >>", "<<jo\ny>>"],
    ),
    (
        "combination:two_responses", {},
        ["one\n******\ntwo", "******one******two******"],
        ["one", "a******b******c", "same ****** same", "a************b"],
    ),
    (
        "combination:repeat_prompt", {"prompt_to_repeat": "Say it. "},
        ["  say IT. And more", "Say it."], ["I say it.", "Say."],
    ),
    (
        "startend:end_checker", {"end_phrase": "Any other questions? "},
        ['"So. any OTHER questions?"\n', "Any other questions?"], ["Any other questions? No."],
    ),
    ("startend:quotation", {}, [' "yes" \n', '""'], ['"yes', "yes", '"', "“yes”"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["AND/OR I", "DON'T", "I’m A1", "**YES** NO"], ["Yes NO", "no"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        ["One NASA", "STATE-OF-THE-ART"], ["A B"],
    ),
    ("punctuation:no_comma", {}, ["one; two", "一，二"], ["one, two", "1,000"]),
]  # fmt: skip
OF_LANGUAGE: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("language:response_language", {"language": "de"}, [GERMAN, "1234"], [ENGLISH]),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, GERMAN.upper(), "1 2 3"]),
    ("change_case:english_lowercase", {}, [ENGLISH], [ENGLISH.upper(), GERMAN.lower()]),
]


def each(cases: list[tuple[str, dict[str, Any], list[str], list[str]]]) -> list[Any]:
    return [
        pytest.param(name, given, text, wanted, id=f"{name}-{wanted}-{place}")
        for name, given, right, wrong in cases
        for wanted, group in ((True, right), (False, wrong))
        for place, text in enumerate(group)
    ]


@pytest.mark.parametrize(("name", "arguments", "text", "wanted"), each(CASES))
def test_an_instruction_is_followed_by_these_and_not_by_those(
    name: str, arguments: dict[str, Any], text: str, wanted: bool
) -> None:
    assert checks.followed([name], [arguments], text) == [wanted]
    assert checks.followed([f"en:{name}"], [{**arguments, "other": None}], text) == [wanted]


@LANGUAGE
@pytest.mark.parametrize(("name", "arguments", "text", "wanted"), each(OF_LANGUAGE))
def test_languages_are_told_apart(
    name: str, arguments: dict[str, Any], text: str, wanted: bool
) -> None:
    assert checks.followed([name], [arguments], text) == [wanted]


def test_all_25_kinds_have_cases_both_ways() -> None:
    assert {name for name, *_ in CASES + OF_LANGUAGE} == set(checks.CHECKS)
    assert len(checks.CHECKS) == 25
    assert all(right and wrong for _, _, right, wrong in CASES + OF_LANGUAGE)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Mr. Smith went to the U.S. He liked it.", 2),
        ("J. K. Rowling wrote it.", 1),
        ("Milk, eggs, etc. and so on", 2),
        ("1. Mix the eggs.\n2. stir them.", 3),
        ("1. Review the plan.", 1),
        ("one\ntwo\n\nthree", 1),
        ('"Really?" he said. (Yes!) Fine.', 4),
        ("It is **bold.** Next", 2),
        ("Wait... what? Yes... The end", 3),
        ("see example.com or v1.2 now", 1),
        ("", 0),
    ],
)
def test_sentences_are_counted_as_punkt_counts_them(text: str, wanted: int) -> None:
    assert texts.count_sentences(text) == wanted


@given(st.text(alphabet='aB1.?! \n")*-', max_size=60))
def test_sentences_lose_no_character_of_a_text(text: str) -> None:
    kept = "".join("".join(texts.sentences(text)).split())
    assert kept == "".join(text.split())


def test_the_loose_reading_looks_past_first_and_last_lines_and_asterisks() -> None:
    name = ["startend:quotation"]
    for text in ('Sure:\n"yes"', '"yes"\nBye', 'Sure:\n"yes"\nBye', '*"yes"*', 'A\n*"yes"*\nB'):
        assert checks.followed(name, [{}], text) == [False]
        assert checks.followed_loosely(name, [{}], text) == [True]
    assert checks.followed_loosely(name, [{}], 'A\nB\n"yes"') == [False]
    assert checks.followed_loosely(["punctuation:no_comma"], [{}], " \n ") == [False]


@given(st.sampled_from(CASES), st.text(max_size=40))
def test_what_is_followed_strictly_is_followed_loosely(case: Any, text: str) -> None:
    name, arguments, right, wrong = case
    for one in (*right, *wrong, text):
        strict = checks.followed([name], [arguments], one)[0]
        assert checks.followed_loosely([name], [arguments], one)[0] >= strict


@pytest.mark.parametrize(
    ("names", "arguments", "reason"),
    [
        (["keywords:rhyme"], [{}], "an unknown instruction"),
        (["keywords:existence"], [{}], "an argument is missing"),
        (["keywords:existence"], [{"keywords": 3}], "an argument cannot be read"),
        (
            ["length_constraints:number_words"], [{"num_words": 3, "relation": "around"}],
            "an argument cannot be read",
        ),
        (["punctuation:no_comma"], [], "the instructions cannot be read"),
        ([], [], "the instructions cannot be read"),
    ],
)  # fmt: skip
def test_instructions_that_cannot_be_read_are_never_taken_for_not_followed(
    names: list[str], arguments: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(checks.UncheckedError, match=reason):
        checks.followed(names, arguments, "a text")


@pytest.mark.parametrize("keyword", ["c++", "(", "a[b"])
def test_a_keyword_that_is_no_expression_is_looked_for_as_it_stands(keyword: str) -> None:
    arguments = {"keywords": [keyword]}
    assert checks.followed(["keywords:existence"], [arguments], f"x {keyword} y") == [True]


def judge(text: str, checker: Any, finish: Finish = "stop", **settings: Any) -> Score:
    raw = checker if isinstance(checker, str) or checker is None else json.dumps(checker)
    prompt = Prompt.of("Do it.", domain="all", checker=raw)
    request = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from="x")
    response = request.failure("gone") if finish == "error" else request.response(text, finish)
    row = Candidate(prompt=prompt, response=response, annotator="ifeval", made_from="row")
    part = load_part("annotators", {"use": "ifeval", **settings})
    assert isinstance(part, IfEval)
    with part.open(Where()) as work:
        (score,) = work(iter([row]))
    assert isinstance(score, Score)
    return score


TWO = {
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}],
}  # fmt: skip


def test_a_response_is_right_where_it_follows_all_and_the_details_say_which() -> None:
    assert judge('"yes"', TWO).value == 1.0
    half = judge('Sure:\n"yes"', TWO)
    assert half.value == 0.0
    assert json.loads(half.details or "") == {
        "instructions": TWO["instruction_id_list"], "strict": [True, False], "loose": [True, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [("cut", "length", "response length"), (" ", "stop", "response empty")],
)
def test_cut_and_empty_responses_are_unscorable_unless_they_shall_be_graded(
    text: str, finish: Finish, reason: str
) -> None:
    score = judge(text, TWO, finish)
    assert (score.status, score.reason) == ("unscorable", reason)
    assert json.loads(score.details or "")["instructions"] == TWO["instruction_id_list"]
    assert judge(text, TWO, finish, grade_cut=True).value == 0.0
    assert judge("", TWO, "error", grade_cut=True).reason == "response error"


@pytest.mark.parametrize("checker", [None, "no json", [], {"kwargs": [{}]}, {**TWO, "kwargs": [1]}])
def test_a_prompt_without_instructions_is_unscorable(checker: Any) -> None:
    score = judge("yes", checker)
    assert (score.status, score.reason) == (
        "unscorable", "the prompt has no instructions to check",
    )  # fmt: skip


def test_an_instruction_that_nobody_knows_is_an_error() -> None:
    score = judge("yes", {"instruction_id_list": ["keywords:rhyme"], "kwargs": [{}]})
    assert (score.status, score.reason) == ("error", "an unknown instruction")
    assert json.loads(score.details or "")["message"] == "keywords:rhyme"


def test_without_langdetect_an_item_about_language_is_unscorable_also_where_another_part_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    names = ["punctuation:no_comma", "change_case:english_capital"]
    score = judge("a, b", {"instruction_id_list": names, "kwargs": [{}, {}]})
    assert (score.status, score.reason) == ("unscorable", "langdetect is not installed")
    assert judge('"yes"', TWO).value == 1.0


def test_livebench_gives_half_for_all_and_half_for_the_share() -> None:
    assert livebench(TWO, '"yes"')[0] == 1.0
    value, details = livebench(TWO, "yes")
    assert value == 0.25  # (0 for not all + 1/2 of the two) / 2
    assert details == {"instructions": TWO["instruction_id_list"], "strict": [True, False]}
    assert livebench(TWO, "a, b")[0] == 0.0
    assert livebench(TWO, " ")[0] == 0.0
    with pytest.raises(checks.UncheckedError, match="cannot be read"):
        livebench({}, "yes")


def test_every_instruction_of_livebenchs_own_questions_can_be_checked(shared_data: Path) -> None:
    seen: set[str] = set()
    for path in sorted((shared_data / "livebench").glob("instruction_following_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            question = json.loads(line)
            seen |= set(question["instruction_id_list"])
            assert 0 <= livebench(question, "A title: <<joy>>.\n\nIt ends. P.S. Bye")[0] <= 1
    assert len(seen) == 16
