"""The 25 kinds of instruction of IFEval (Zhou et al., arXiv 2311.07911), each checked by rule.

They do what the publisher's `instructions.py` does, oddities included (each is told at its
function). Where that draws at random, because an argument is missing or a letter is none, the
argument is taken as it stands here, and one that is missing is an `UncheckedError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from fusechat.annotators import _ifeval_text as texts

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_DIVIDER = "******"


class UncheckedError(Exception):
    """An instruction that cannot be checked; the message is short and countable."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.reason, self.details = reason, details


def followed(instructions: Sequence[str], arguments: Sequence[Arguments], text: str) -> list[bool]:
    """Whether a response follows each of its instructions, as it stands (strict).

    `instructions` are names such as `punctuation:no_comma`, with or without `en:` before them;
    `arguments` are as in the publisher's file, in the same order; null ones count as not given. A
    blank response follows none. Raises `UncheckedError`.
    """
    return [bool(text.strip()) and check(text) for check in _checks(instructions, arguments)]


def followed_loosely(
    instructions: Sequence[str], arguments: Sequence[Arguments], text: str
) -> list[bool]:
    """As `followed`, of a response or any of its variants: without its first line, its last line,
    both, and each of these without asterisks."""
    lines = text.split("\n")
    cuts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = dict.fromkeys([*cuts, *(cut.replace("*", "") for cut in cuts)])
    kept = [variant for variant in variants if variant.strip()]
    return [any(map(check, kept)) for check in _checks(instructions, arguments)]


def _checks(
    instructions: Sequence[str], arguments: Sequence[Arguments]
) -> list[Callable[[str], bool]]:
    if len(instructions) != len(arguments) or not instructions:
        counts = f"{len(instructions)} instructions, {len(arguments)} groups of arguments"
        raise UncheckedError("the instructions cannot be read", counts)
    if needs_language(instructions) and find_spec("langdetect") is None:
        raise UncheckedError("langdetect is not installed", "pip install 'fusechat[ifeval]'")
    return [_check(name, given) for name, given in zip(instructions, arguments, strict=True)]


def _check(name: str, given: Arguments) -> Callable[[str], bool]:
    rule = CHECKS.get(name.removeprefix("en:"))
    if rule is None:
        raise UncheckedError("an unknown instruction", name)
    told = {key: value for key, value in given.items() if value is not None}

    def check(text: str) -> bool:
        try:
            return rule(text, told)
        except KeyError as error:
            raise UncheckedError("an argument is missing", f"{name}: {error}") from error
        except (TypeError, AttributeError) as error:
            raise UncheckedError("an argument cannot be read", f"{name}: {error}") from error

    return check


def needs_language(instructions: Sequence[str]) -> bool:
    """Whether one of the instructions is about the language of the response."""
    return any(name.removeprefix("en:") in _OF_LANGUAGE for name in instructions)


def _compared(count: int, given: Arguments, number: str, relation: str) -> bool:
    wanted, how = given[number], given[relation]
    if how not in ("less than", "at least"):
        raise UncheckedError("an argument cannot be read", f"{relation}: {how}")
    return bool(count < wanted if how == "less than" else count >= wanted)


def _times(keyword: str, text: str, edge: str = "") -> int:
    """Matches in any case. A keyword is an expression, as upstream; one that is none, a text."""
    try:
        pattern = re.compile(edge + keyword + edge, re.IGNORECASE)
    except re.error:
        pattern = re.compile(edge + re.escape(keyword) + edge, re.IGNORECASE)
    return sum(1 for _ in pattern.finditer(text))


def _existence(text: str, given: Arguments) -> bool:
    """Each keyword is somewhere, within a longer word too."""
    return all(_times(keyword, text) for keyword in given["keywords"])


def _frequency(text: str, given: Arguments) -> bool:
    count = _times(given["keyword"].strip(), text)
    return _compared(count, given, "frequency", "relation")


def _forbidden_words(text: str, given: Arguments) -> bool:
    """None of the words, as whole words."""
    return not any(_times(word, text, edge=r"\b") for word in given["forbidden_words"])


def _letter_frequency(text: str, given: Arguments) -> bool:
    """Upstream draws a letter where the file has `#` or `!` (two items); here these are counted."""
    letter = given["letter"].strip().lower()
    return _compared(text.lower().count(letter), given, "let_frequency", "let_relation")


def _response_language(text: str, given: Arguments) -> bool:
    """A text of no language (digits, signs) counts as following it, as upstream."""
    return texts.language(text) in (given["language"], None)


def _number_sentences(text: str, given: Arguments) -> bool:
    return _compared(texts.count_sentences(text), given, "num_sentences", "relation")


def _number_paragraphs(text: str, given: Arguments) -> bool:
    """Between lines of `***`; an empty one at either end does not count, any other is wrong."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    ends = {0, len(parts) - 1}
    empty = sum(not parts[end] for end in ends)
    return bool(len(parts) - empty == given["num_paragraphs"])


def _number_words(text: str, given: Arguments) -> bool:
    return _compared(texts.count_words(text), given, "num_words", "relation")


def _nth_paragraph_first_word(text: str, given: Arguments) -> bool:
    """Paragraphs are between blank lines; an empty one is not counted but keeps its place."""
    parts = text.split("\n\n")
    count, nth = sum(bool(part.strip()) for part in parts), given["nth_paragraph"]
    if nth > count or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"').lower()
    first = re.split(r"[.,?!'\"]", word)[0]
    return bool(count == given["num_paragraphs"] and first == given["first_word"].lower())


def _number_placeholders(text: str, given: Arguments) -> bool:
    return bool(len(re.findall(r"\[.*?\]", text)) >= given["num_placeholders"])


def _postscript(text: str, given: Arguments) -> bool:
    """The marker is anywhere; `p.s` within a word will do, as upstream."""
    marker = given["postscript_marker"].strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker) or re.escape(marker.lower()), text.lower()) is not None


def _number_bullet_lists(text: str, given: Arguments) -> bool:
    """Lines that begin with one asterisk or with a hyphen (`---` too), exactly so many."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, flags=re.MULTILINE)
    hyphens = re.findall(r"^\s*-.*$", text, flags=re.MULTILINE)
    return bool(len(stars) + len(hyphens) == given["num_bullets"])


def _constrained_response(text: str, given: Arguments) -> bool:
    """One of three sentences is somewhere in it."""
    return any(option in text for option in _OPTIONS)


def _number_highlighted_sections(text: str, given: Arguments) -> bool:
    """`*one*` and `**two**` within a line, each not blank."""
    once = [part.strip("*").strip() for part in re.findall(r"\*[^\n\*]*\*", text)]
    twice = [part[2:-2].strip() for part in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return bool(sum(map(bool, once + twice)) >= given["num_highlights"])


def _multiple_sections(text: str, given: Arguments) -> bool:
    """The splitter with a number behind it, anywhere."""
    splitter = re.escape(given["section_spliter"].strip())
    return bool(len(re.findall(rf"{splitter}\s?\d+", text)) >= given["num_sections"])


def _json_format(text: str, given: Arguments) -> bool:
    """All of it is JSON, perhaps in a fence."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, given: Arguments) -> bool:
    titles = re.findall(r"<<[^\n]+>>", text)
    return any(title.lstrip("<").rstrip(">").strip() for title in titles)


def _two_responses(text: str, given: Arguments) -> bool:
    """Two different ones between six asterisks; an empty one only before or behind them."""
    parts = [part.strip() for part in text.split(_DIVIDER)]
    kept = [part for part in parts if part]
    return all(parts[1:-1]) and len(kept) == 2 and kept[0] != kept[1]


def _repeat_prompt(text: str, given: Arguments) -> bool:
    return bool(text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower()))


def _end_checker(text: str, given: Arguments) -> bool:
    """Quotation marks around the response do not matter."""
    end = text.strip().strip('"').lower()
    return bool(end.endswith(given["end_phrase"].strip().lower()))


def _capital_word_frequency(text: str, given: Arguments) -> bool:
    count = texts.count_capital_words(text)
    return _compared(count, given, "capital_frequency", "capital_relation")


def _english_capital(text: str, given: Arguments) -> bool:
    """No small letter, and English, or of no language."""
    return text.isupper() and texts.language(text) in ("en", None)


def _english_lowercase(text: str, given: Arguments) -> bool:
    return text.islower() and texts.language(text) in ("en", None)


def _no_comma(text: str, given: Arguments) -> bool:
    return "," not in text


def _quotation(text: str, given: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == '"' and text[-1] == '"'


CHECKS: Mapping[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:number_words": _number_words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted_sections,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": _json_format,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_word_frequency,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "punctuation:no_comma": _no_comma,
}
"""Name of an instruction -> its rule."""
_OF_LANGUAGE = (
    "language:response_language",
    "change_case:english_capital",
    "change_case:english_lowercase",
)
