"""Whether a text has words of a benchmark's items: by runs of words, and as a near-duplicate. Pure.

A run is `ngram` words in a row (13: as GPT-3, appendix C, looked for test sets in its training
data). Runs of few different words, and runs that many items of one benchmark share (its
instructions), tell of no item and are passed over. A question shorter than a run counts as a
whole: only a text of the very same words has it. A near-duplicate of a question shares at least
a given part (Jaccard) of its word n-grams with it, found exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusechat.metrics.words import words_of

Array = npt.NDArray[Any]
DIFFERENT_WORDS = 5
"""A run with fewer different words (zeros, dotted lines, `for i in range(n)`) is in too many texts
to tell anything; numbers and single letters are not counted."""
COMMON = 10
"""A run in so many items of one benchmark or more is its instruction, and tells of no item."""
SLACK = 1e-9
"""Of a threshold, so that 4/5 is at least 0.8."""
Kind = Literal["run", "near_duplicate"]
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Item:
    """One item of a benchmark, as its texts."""

    benchmark: str
    name: str
    """How the benchmark calls it: an id, or its place."""
    questions: tuple[str, ...]
    """What is asked; compared as a whole, too."""
    answers: tuple[str, ...] = ()
    """Reference answers and solutions: only their runs are looked for."""


@dataclass(frozen=True)
class Match:
    """What a text has of one item."""

    item: Item
    kind: Kind
    runs: int
    """Different runs that both have; 0 of a near-duplicate without any."""
    jaccard: float
    """Shared word n-grams of text and question, as a share of all that either has; in [0, 1]."""
    words: str
    """The first run that both have; of a near-duplicate without one, the question's words."""


@dataclass
class _Index:
    """Number -> the items that have it; sorted numbers and their owners."""

    numbers: Array
    begins: Array
    owners: Array

    @classmethod
    def of(cls, sets: Sequence[Array]) -> _Index:
        values = np.concatenate([np.zeros(0, np.uint64), *sets])
        owners = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        order = np.argsort(values, kind="stable")
        numbers, begins = np.unique(values[order], return_index=True)
        return cls(numbers, np.append(begins, len(values)), owners[order])

    def owned(self, asked: Array) -> tuple[Array, Array]:
        """Owners of the numbers that are known, and for each which of `asked` it was."""
        at = np.searchsorted(self.numbers, asked)
        at[at == len(self.numbers)] = 0
        known = np.flatnonzero(self.numbers[at] == asked) if len(self.numbers) else at[:0]
        found = at[known]
        counts = self.begins[found + 1] - self.begins[found]
        which = np.repeat(known, counts)
        starts = np.repeat(self.begins[found] - np.cumsum(counts) + counts, counts)
        return self.owners[starts + np.arange(len(which))], which


@dataclass
class HeldOutItems:
    """The items of benchmarks, looked up by what a text shares with them."""

    items: Sequence[Item]
    ngram: int = 13
    near_duplicate: float | None = 0.8
    """Least Jaccard similarity; None: not looked for."""
    shingle: int = 5
    """Words of the n-grams that are compared."""
    common: int = field(default=0, init=False)
    """Runs that were passed over since many items of one benchmark have them."""
    _runs: _Index = field(init=False, repr=False)
    _shingles: _Index = field(init=False, repr=False)
    _sizes: Array = field(init=False, repr=False)
    _questions: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._runs = _Index.of(self._telling([self._runs_of_item(item) for item in self.items]))
        sets, self._questions = [], []
        for number, item in enumerate(self.items):
            for question in item.questions:
                sets.append(np.unique(_grams(words_of(question), self.shingle)))
                self._questions.append(number)
        self._sizes = np.array([len(one) for one in sets], np.int64)
        self._shingles = _Index.of(sets)

    def matches(self, text: str) -> list[Match]:
        """What a text has of the items: of each benchmark the one of which it has the most."""
        words = words_of(text)
        runs = _telling_runs(words, self.ngram)
        owners, which = self._runs.owned(runs)
        shared = Counter(owners.tolist())
        alike = self._alike(words) if self.near_duplicate is not None else {}
        best: dict[str, Match] = {}
        for number in sorted({*shared, *alike}):
            item = self.items[number]
            words_shared = ""
            if number in shared:
                run = runs[which[owners == number][0]]
                words_shared = _words_of_run(words, self.ngram, run)
            match = Match(
                item,
                "run" if number in shared else "near_duplicate",
                shared[number],
                alike.get(number, 0.0),
                words_shared or " ".join(words_of(item.questions[0])),
            )
            known = best.get(item.benchmark)
            if known is None or (match.runs, match.jaccard) > (known.runs, known.jaccard):
                best[item.benchmark] = match
        return list(best.values())

    def _runs_of_item(self, item: Item) -> Array:
        parts = [_telling_runs(words_of(text), self.ngram) for text in item.questions]
        for text in item.answers:
            if len(words := words_of(text)) >= self.ngram:
                parts.append(_telling_runs(words, self.ngram))
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))

    def _telling(self, sets: list[Array]) -> list[Array]:
        """Without the runs that `COMMON` items of one benchmark share."""
        out = list(sets)
        for benchmark in {item.benchmark for item in self.items}:
            at = [n for n, item in enumerate(self.items) if item.benchmark == benchmark]
            values, counts = np.unique(
                np.concatenate([np.zeros(0, np.uint64), *(sets[n] for n in at)]), return_counts=True
            )
            usual = values[counts >= COMMON]
            self.common += len(usual)
            for number in at:
                out[number] = sets[number][~np.isin(sets[number], usual)]
        return out

    def _alike(self, words: list[str]) -> dict[int, float]:
        """Item -> the highest similarity of one of its questions, where that is enough."""
        own = np.unique(_grams(words, self.shingle))
        owners, _ = self._shingles.owned(own)
        found: dict[int, float] = {}
        numbers, counts = np.unique(owners, return_counts=True)
        union = len(own) + self._sizes[numbers] - counts
        assert self.near_duplicate is not None
        for question, value in zip(numbers.tolist(), (counts / union).tolist(), strict=True):
            if value >= self.near_duplicate - SLACK:
                number = self._questions[question]
                found[number] = max(value, found.get(number, 0.0))
        return found


@lru_cache(maxsize=1 << 17)
def _number(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _windows(words: Sequence[str], length: int) -> Array:
    """`[runs, words]` of 64-bit numbers; a shorter text is one run of all its words."""
    if not words:
        return np.zeros((0, 1), np.uint64)
    numbers = np.array([_number(word) for word in words], np.uint64)
    windows: Array = np.lib.stride_tricks.sliding_window_view(numbers, min(length, len(words)))
    return windows


def _mixed(windows: Array) -> Array:
    out = np.full(len(windows), windows.shape[1], np.uint64)
    for place in range(windows.shape[1]):
        out = out * _ODD + windows[:, place]
        out = (out ^ (out >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        out ^= out >> np.uint64(32)
    return out


def _grams(words: Sequence[str], length: int) -> Array:
    return _mixed(_windows(words, length))


def _telling_runs(words: Sequence[str], length: int) -> Array:
    """The runs of a text in order, without those of few different words; short texts as a whole."""
    windows = _windows(words, length)
    if windows.shape[1] < length:
        return _mixed(windows)
    telling = _windows([word if _tells(word) else "" for word in words], length)
    ordered = np.sort(np.where(telling == _number(""), np.uint64(0), telling), 1)
    different = (ordered[:, 0] > 0) + np.count_nonzero(np.diff(ordered, axis=1), 1)
    return _mixed(windows[different >= min(DIFFERENT_WORDS, length)])


def _tells(word: str) -> bool:
    """Not a number, nor a single Latin letter, of which loops and formulas are made."""
    return not word.isdigit() and (len(word) > 1 or not word.isascii())


def _words_of_run(words: Sequence[str], length: int, run: np.uint64) -> str:
    at = int(np.flatnonzero(_grams(words, length) == run)[0])
    return " ".join(words[at : at + length])
