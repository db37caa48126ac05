"""How IFEval counts words, sentences and capitals, and which language it takes a text for.

The publisher's code counts sentences with the English Punkt model of nltk and capital words with
nltk's word tokenizer. Both are followed here without their data: `sentences` has Punkt's rules
(Kiss and Strunk, 2006) with a list of abbreviations, and instead of its table of how half a
million words are written, a list of words that begin sentences.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_ABBREVIATIONS_TEXT = """
mr mrs ms dr prof st jr sr inc ltd co cos corp bros cie vs gen col maj lt adm sen rep reps messrs
jan feb aug sept sep oct nov dec mon tues wed fri ave ft yr mg ct ga pa va wash calif ala ariz
colo conn fla ill kan ky mich minn nev okla ore tenn vt wis ok u.s u.s.a u.k u.n u.s.s.r a.m p.m
a.d d.c l.a n.y n.j n.c s.c r.i w.va ph.d m.b.a m.d.c p.a.m j.r c.v t p n d k m s h w g l c r v e
f
"""
_BEGINNERS_TEXT = """
a about above according after again all also although among an and another any anyone are as ask
at be because become before being below both bring but by can choose come consider continue could
create despite did do does don down during each either ensure even every everyone everything find
first for from get give go had has have having he her here hers his how however i if in indeed
instead into is it its just keep last let like look made make many may maybe meanwhile more
moreover most much my near neither never nevertheless next no nonetheless nor not nothing now of
off often on once one only or other our out over perhaps please put rather remember since so some
someone something soon still such take than thank that the their them then there therefore these
they this those though through thus to too toward try two under until up upon use very was we well
were what when where whether which while who whose why will with within without would write yes
yet you your
"""
_AFTER_NUMBERS_TEXT = """
international commodities insider credit corrections financing business leisure dividend review
who letters notable
"""
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
"""Abbreviations that Punkt's English model knows, without their last point; `etc`, `e.g` and `i.e`
are none of them."""
_BEGINNERS = frozenset(_BEGINNERS_TEXT.split())
"""Words written small within sentences, so that a capital one begins a sentence."""
_AFTER_NUMBERS = frozenset(_AFTER_NUMBERS_TEXT.split())
"""Words with which Punkt takes a number before them together (`1. Review ...`)."""
_AFTER_END = frozenset(")\";}]*:@'({[!?")
"""Characters behind which a point, `?` or `!` in front of them may end a sentence."""
_CLOSING = re.compile(r"[\"')\]}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_OUTER = '("`{[:;&#*@)}]-,'
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?")
_INITIAL = re.compile(r"[^\W\d]\.")
_WORD = re.compile(r"\w+")

_APART = re.compile(r"[\[\](){}<>;@#$%&?!*\"«»“”‘’„`‒–—―]|--|\.{2,}|[:,](?!\d)")
_CLITIC = re.compile(r"(?<=[^' ])('[sSmMdD]|'ll|'LL|'re|'RE|'ve|'VE|n't|N'T)(?=\s|$)")
_FUSED = re.compile(
    r"\b(can)(not)\b|\b(d)('ye)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b"
    r"|\b(more)('n)\b|\b(wan)(na)(?=\s)|(?<=\s)('t)(is)\b|(?<=\s)('t)(was)\b",
    re.IGNORECASE,
)


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores: `don't` is two words."""
    return len(_WORD.findall(text))


def count_capital_words(text: str) -> int:
    """Tokens with letters and none of them small: `I`, `U.S.`, `COVID-19`; `DON'T` is two."""
    text = _APART.sub(" ", text)
    text = _FUSED.sub(lambda found: " ".join(part for part in found.groups() if part), text)
    text = _CLITIC.sub(r" \1", text)
    return sum(token.isupper() for token in text.split())


def sentences(text: str) -> list[str]:
    """The sentences of a text as Punkt cuts it, without the spaces around them.

    Quirks kept: line ends end no sentence, so that a list without points is one; `1.` before a
    capital word is a sentence by itself; so are two asterisks after a point.
    """
    pieces, begin = [], 0
    for start, end, follows in _candidates(text):
        if _ends(text[start:end], follows):
            pieces.append(text[begin:end])
            begin = end
    pieces.append(text[begin:])
    return _with_closing(pieces)


def count_sentences(text: str) -> int:
    """How many sentences a text has."""
    return len(sentences(text))


def _candidates(text: str) -> list[tuple[int, int, str]]:
    """Of each run without spaces: where it starts, where a sentence may end, what follows."""
    runs = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    out = []
    for place, (start, end) in enumerate(runs):
        following = runs[place + 1] if place + 1 < len(runs) else None
        for at in range(end - 1, start - 1, -1):
            if text[at] not in ".?!":
                continue
            if at + 1 < end and text[at + 1] in _AFTER_END:
                out.append((start, at + 1, text[at + 1]))
                break
            if at + 1 == end and following is not None:
                out.append((start, end, text[slice(*following)]))
                break
    return out


def _ends(word: str, follows: str) -> bool:
    """Whether a sentence ends with `word`, of which the last character is a point, `?` or `!`."""
    if "?" in word or "!" in word:
        return True
    token = word.lstrip(_OUTER)
    name = token[:-1].lower()
    first, beginner = _beginner(follows)
    if token.endswith(".."):
        return beginner
    if _NUMBER.fullmatch(token):
        return not first.islower() and _plain(follows) not in _AFTER_NUMBERS
    if _INITIAL.fullmatch(token):
        return beginner
    if name in _ABBREVIATIONS or name.rpartition("-")[2] in _ABBREVIATIONS:
        return beginner
    return True


def _beginner(follows: str) -> tuple[str, bool]:
    """The first character of the next word, and whether that word, with a capital, begins one."""
    first = follows[:1]
    return first, first.isupper() and _plain(follows) in _BEGINNERS


def _plain(word: str) -> str:
    found = _WORD.match(word)
    return found.group().lower() if found else ""


def _with_closing(pieces: list[str]) -> list[str]:
    """The pieces, with quotes and brackets that close one sentence taken from the next."""
    out: list[str] = []
    for piece in pieces:
        rest = piece.lstrip() if not out or piece[:1].isspace() else piece
        found = _CLOSING.match(rest) if out else None
        if found:
            out[-1] += found.group().rstrip()
            rest = rest[found.end() :]
        if rest.strip():
            out.append(rest.strip())
    return out


@lru_cache(maxsize=1)
def _factory() -> Any:
    """langdetect's profiles, in a factory of our own: its draws are the same in every process."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory


def language(text: str) -> str | None:
    """The ISO 639-1 code of a text's language as langdetect takes it; None for no language.

    Raises ImportError where langdetect is not installed.
    """
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return None
