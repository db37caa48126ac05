"""The letter that a response states as its answer to a multiple-choice question. Pure.

A *statement* says what the answer is: "the best answer is C", "Answer: (C)", "\\boxed{C}", "option
C is correct", "I choose C", a last line that is a letter. The last statement counts, since a text
may go through several before it settles. A statement under a condition ("the answer is A if ...")
counts where no plain one is there, and all of that kind agree. A statement names one option, by
its letter or by its whole text; one that names two, or none of the item's, is no answer, and no
earlier one is taken instead. Where nothing is stated, the option that the last line is, or that
the last concluding sentence marks ("Thus it was the peasantry (H)"), is the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

_OPEN = (
    r"(?:\n\s*[-•]\s|[\s\[({<*_`\"'“‘$]|\\\(|\\\[|\\[dt]?boxed\s*\{|\\fbox\s*\{|\\(?:text|mathrm|mathbf|textbf)"
    r"\s*\{|\b[Oo]ption\b|\b[Cc]hoice\b|\b[Ll]etter\b)*"
)
_BEST = (
    r"(?:correct|right|best|final|chosen|selected|appropriate|accurate|suitable|likely|only|"
    r"closest|nearest|most[ ]\w+)"
)
_BE = (
    r"(?:\s+(?:is|are|was|(?:would|should|must|will|has\s+to)\s+be)\b"
    r"(?:,?\s+(?:therefore|thus|hence|then|clearly|definitely|(?:most\s+)?likely|probably|simply)\b)*"
    r"\s*[:,]?|\s*[:=→])"
)
_NOUN = rf"(?:\banswers?\b|\b{_BEST}[ ](?:option|choice|letter|one|response)\b)"
_WITHIN = (
    r"(?:[ ](?:to|for|of|in|here|choice|option|letter|among|from|therefore|then)\b[^.\n:=]{0,80}?)?"
)
_LEAD = re.compile(
    rf"(?i:{_NOUN}{_WITHIN}[*_]*(?P<be>{_BE})|\bfinal\s*:|答案\s*(?:是|为|應為|应为)?\s*[:：]?)"
    rf"(?P<open>{_OPEN})"
)
_CHOSEN = re.compile(
    r"(?i:\b(?:I|we)(?:['’](?:d|ll|m)|\s+(?:would|will|must|should|can|am|are))?(?:\s+\w+ly)?\s+"
    r"(?:choose|chose|pick|select|answer|go(?:ing)?\s+(?:with|for)|conclude|guess))\b"
    rf"(?i:\s+(?:that\s+)?(?:the\s+)?(?:answer\s+(?:is\s+)?)?)(?P<open>{_OPEN})"
)
_BOXED = re.compile(r"\\[dt]?boxed\s*\{(?P<open>)")
_SUBJECT = re.compile(
    r"(?:(?P<noun>\b(?i:option|choice|answer)\s+)(?P<a>[(\[*_\"']{0,6}[A-Z]\b)"
    r"|(?P<b>[(\[*_\"']{0,6}\b[A-Z]\b))"
    rf"[)\]*_.:\"']*\s+(?:is|must\s+be|would\s+be|should\s+be)\s+(?:therefore\s+|thus\s+|clearly\s+)?"
    rf"(?P<the>the\s+)?{_BEST}(?P<what>\s+(?:answer|option|choice|one)\b)?"
)
_LETTER = re.compile(r"(?P<letter>[A-Z])(?![A-Za-z0-9_])(?!['’]\w)(?!-\w)")
_SMALL = re.compile(r"(?P<letter>[a-z])\s*[)\]}]")
_BEHIND = re.compile(r"[(\[]\W{0,4}(?P<letter>[A-Z])\W{0,4}[)\]]\W*$")
_AFTER_WORD = re.compile(
    r"\s+(?:because|since|as|for|which|due|based|and|or|but|with|given|so|after|from|where|by|"
    r"according|that|if|unless|when|provided|assuming|is|in|only|not|rather|here)\b"
)
_SECOND = re.compile(
    r"[)\]}*_]*\s*(?:,\s*(?:and|or)\s|,|/|&|\bor\b|\band\b)\s*(?:either\s+)?(?:option\s+)?[(\[*_]*"
    r"(?P<letter>[A-Z])\b(?!['’])(?!\s+(?:is|are|was|were|does|do|has|can|cannot|would|could|will|"
    r"says|states|describes|refers|looks|seems)\b)(?!\s+[a-z])"
)
_CONDITION = re.compile(r"[)\]}*_.\"']*,?\s+(?:only\s+)?(?:if|unless|when|provided|assuming)\b")
_NOT_SO = re.compile(
    r"(?i:\b(?:in|un)correct|\bwrong|\bpossible|\bpotential|\banother|\btempting|\bplausible|"
    r"\bnot\s+the|\bno|n['’]t\s+the|\bwhether\s+the|\bif\s+the|\bother)\s+(?:\w+\s+)?$"
)
_SUPPOSED = re.compile(r"(?i:\b(?:if|were|had|suppose)\b)[^.!?\n]*$")
_DENIED = re.compile(r"(?i:\b(?:statements?|figure|graph|table|point|part|case|type|group)\s+)$")
_CONCLUDING = re.compile(
    r"(?i:(?:^|[.!?:\n])[\s*#]{0,8}(?:based\s+on|given\s+th|therefore|thus|hence|so|in\s+conclusion|in\s+summary|"
    r"to\s+conclude|overall|consequently|accordingly)\b)(?P<rest>[^\n]*?)"
    r"(?=(?<![A-Z]\.[A-Z])[.!?](?:\s|$)|\n|$)"
)
_MARKED = re.compile(
    r"\((?P<a>[A-Z])\)|\*\*\(?(?P<b>[A-Z])\b[^*\n]*\*\*|(?i:\boption\s+)(?P<c>[A-Z])\b"
)
_AGAINST = re.compile(
    r"(?i:\b(?:not|incorrect|wrong|false|eliminat\w+|rul\w+\s+out|cannot|neither|unlikely)\b|n['’]t\b)"
)
_MARKUP = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|mathit|[dt]?boxed)\s*\{|\\[()\[\],;! ]|[*_`{}$]"
)
_TAIL = re.compile(r"(?<![A-Z]\.[A-Z])[.!?]+(?=\s|$)|\n")
_LINE_LETTER = re.compile(
    r"(?i:(?:final|option|choice)\s*:?\s*)?[(\[]?(?P<letter>[A-Z])[)\]]?\s*[.:]?"
)
_BOLD = re.compile(r"\*\*[(\[]?([A-Z])(?:[)\].:][^*\n]*)?\*\*")
_LINE_TEXT = re.compile(r"[(\[]?(?P<letter>[A-Z])[)\].:]\s*(?P<text>\S.*)")


_NEAR = 80
"""Characters before a statement that are looked at for what denies it."""


@dataclass(frozen=True)
class Stated:
    """What was found: a letter and how, or, without a letter, the words of a failed statement."""

    letter: str | None
    how: str = ""
    words: str = ""


@dataclass(frozen=True)
class _Statement:
    at: int
    found: Stated
    conditional: bool = False


def stated_letter(text: str, options: Sequence[str]) -> Stated:
    """The letter that `text` settles on, one of the first `len(options)`; or none, and why."""
    reader = _Reader(text, options)
    firm, loose = reader.statements()
    if firm:
        return max(firm, key=lambda one: one.at).found
    if loose:
        letters = {one.found.letter for one in loose}
        agreed = loose[-1].found
        return agreed if len(letters) == 1 else Stated(None, words=agreed.words)
    return reader.last_line() or reader.conclusion() or Stated(None)


class _Reader:
    """One text and one item's options."""

    def __init__(self, text: str, options: Sequence[str]) -> None:
        self.text = text
        self.letters = ascii_uppercase[: len(options)]
        self.places: dict[str, str | None] = {}
        for letter, option in zip(self.letters, options, strict=False):
            plain = _plain(option)
            self.places[plain] = None if plain in self.places else letter
        self.places.pop("", None)

    def statements(self) -> tuple[list[_Statement], list[_Statement]]:
        """Plain statements, and those under a condition, each in the order of the text."""
        found = [*self._leads(), *self._subjects()]
        last = self.last_line()
        if last is not None and last.how == "last line":
            found.append(_Statement(len(self.text), last))
        found.sort(key=lambda one: one.at)
        return [s for s in found if not s.conditional], [s for s in found if s.conditional]

    def _leads(self) -> Iterator[_Statement]:
        """ "... answer is C", "I choose C", "\\boxed{C}"."""
        for pattern, how in ((_LEAD, "answer is"), (_CHOSEN, "chosen"), (_BOXED, "boxed")):
            for match in pattern.finditer(self.text):
                before = self.text[max(0, match.start() - _NEAR) : match.start()]
                if pattern is _LEAD and _NOT_SO.search(before):
                    continue
                statement = self._named(match.end(), match["open"], how)
                if statement is not None:
                    supposed = pattern is _LEAD and "would" in (match["be"] or "").lower()
                    if supposed and _SUPPOSED.search(before):
                        statement = replace(statement, conditional=True)
                    yield statement

    def _subjects(self) -> Iterator[_Statement]:
        """ "Option C is correct", "C is the best answer"."""
        for match in _SUBJECT.finditer(self.text):
            named = match["noun"] or (match["the"] and match["what"])
            before = self.text[max(0, match.start() - _NEAR) : match.start()]
            if not named or _DENIED.search(before):
                continue
            found = self._of((match["a"] or match["b"])[-1], "is correct", match.group())
            yield _Statement(match.start(), found, bool(_CONDITION.match(self.text, match.end())))

    def _named(self, at: int, opened: str, how: str) -> _Statement | None:
        """The statement whose object begins at `at`; None where it names no option at all."""
        words = self._object(at)
        by_text = self.places.get(_plain(words))
        match = _LETTER.match(self.text, at)
        if match is None and (opened.rstrip()[-1:] in ("(", "{", "[") or how == "boxed"):
            match = _SMALL.match(self.text, at)
        if match is None or not self._meant(match, opened):
            behind = _BEHIND.search(words)
            if by_text is None and behind is not None:
                return _Statement(at, self._of(behind["letter"], how, words))
            return _Statement(at, Stated(by_text, how + " text", words)) if by_text else None
        end = match.end("letter")
        letter = match["letter"].upper()
        if by_text is not None and len(_plain(words)) > 1:
            letter = by_text
        second = _SECOND.match(self.text, end)
        if second is not None and second["letter"] != letter and by_text is None:
            return _Statement(at, Stated(None, words=words))
        return _Statement(at, self._of(letter, how, words), bool(_CONDITION.match(self.text, end)))

    def _meant(self, match: re.Match[str], opened: str) -> bool:
        """Whether a letter is a letter: A may be an article, I a pronoun."""
        letter, end = match["letter"], match.end("letter")
        if letter not in "AI" or re.search(
            r"[\[({*_`\"“$]\s*$|(?i:option|choice|letter)\s*$", opened
        ):
            return True
        rest = self.text[end : end + 80]
        if not re.match(r"\s+[a-z]", rest) or (letter == "A" and _AFTER_WORD.match(rest)):
            return True
        own = self.places.get(_plain(_first(rest)))
        return own == letter or bool(letter == "I" and re.match(r"\s+(?:because|since|as)\b", rest))

    def _of(self, letter: str, how: str, words: str) -> Stated:
        """The letter, where the item has it."""
        return Stated(letter, how, words) if letter in self.letters else Stated(None, words=words)

    def _object(self, at: int) -> str:
        """The words from `at` on to the end of their sentence or line."""
        return _first(self.text[at : at + 400])

    def last_line(self) -> Stated | None:
        """What the last line is, where it is a letter, a letter with its option, or an option."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if not lines:
            return None
        line = _bare(lines[-1])
        if (match := _LINE_LETTER.fullmatch(line)) and (
            match["letter"] != "I" or "I" in self.letters
        ):
            return self._of(match["letter"], "last line", line)
        if match := _LINE_TEXT.fullmatch(line):
            letter = match["letter"]
            if self.places.get(_plain(match["text"])) == letter:
                return Stated(letter, "last line", line)
            if len(lines) == 1 and letter in self.letters:
                return Stated(letter, "only line", line)
        return self._loose_line(lines[-1], line)

    def conclusion(self) -> Stated | None:
        """The one option that the last concluding sentence marks ("Thus ... is the peasantry (H)").

        Only where nothing is stated otherwise; a sentence that says no to something is passed over.
        """
        for match in reversed(list(_CONCLUDING.finditer(self.text))):
            words = match["rest"]
            named = {one["a"] or one["b"] or one["c"] for one in _MARKED.finditer(words)}
            if named and not _AGAINST.search(words):
                letter = named.pop()
                return self._of(letter, "conclusion", words) if not named else None
        return None

    def _loose_line(self, marked: str, line: str) -> Stated | None:
        """A last line that is no statement: its only bold letter, or the text of an option."""
        bold = set(_BOLD.findall(marked))
        if len(bold) == 1:
            return self._of(bold.pop(), "bold", line)
        letter = self.places.get(_plain(line))
        return Stated(letter, "option text", line) if letter else None


def _bare(line: str) -> str:
    """A line without what marks it up."""
    return _MARKUP.sub("", line).strip().lstrip("#->• ").strip()


def _first(words: str) -> str:
    """The first sentence or line."""
    found = _TAIL.search(words)
    return (words[: found.start()] if found else words).strip()


def _plain(text: str) -> str:
    """A text for comparison: without marks, case, doubled spaces, and punctuation around it."""
    folded = unicodedata.normalize("NFKC", _MARKUP.sub("", text)).casefold()
    return " ".join(folded.split()).strip(" .,:;!?\"'()[]“”‘’")
