"""The funnel: for each prompt set, domain and source, what the prompts gave, or why nothing.

Strategies refuse in countable words of their own; one table here says which of the
funnel's words each of them is. Where a strategy only says that nothing was whole or judged,
the funnel looks at the responses and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fusechat.groups import ABSENT, FINISHES, PICKED, Groups, Selection
from fusechat.parts import Strategy
from fusechat.stages.attribution_numbers import RIGHT, Array
from fusechat.stages.decisions import Picked
from fusechat.stages.split import BLAMED, Placed

Kind = Literal["response", "judge", "verdict", "margin", "rule"]


@dataclass(frozen=True)
class Word:
    """One reason of the funnel: what kind of reason it is, and what it means."""

    word: str
    kind: Kind
    means: str


WORDS = (
    Word("no response", "response", "No response was sampled or stored."),
    Word("truncated", "response", "No response is whole, and one or more were cut by length."),
    Word("failed", "response", "No response is whole: they failed to be sampled."),
    Word("empty", "response", "No response is whole: they are empty."),
    Word("one usable", "response", "Only one response is whole and scored; a pair needs two."),
    Word("one source", "response", "Only one source has a usable response; the pair needs two."),
    Word("unscorable", "judge", "The responses have nothing to be judged by."),
    Word("judge failed", "judge", "The annotator failed on the responses."),
    Word("no score", "judge", "The annotator has not judged the responses."),
    Word("all wrong", "verdict", "No response that could be judged is right."),
    Word("all right", "verdict", "No response that could be judged is wrong."),
    Word("identical", "margin", "The best and the worst response are the same text."),
    Word("equal scores", "margin", "The best and the worst response score the same."),
    Word("negative margin", "margin", "The response to choose scores below the one to reject."),
    Word("margin under", "margin", "The scores differ by less than min_margin."),
    Word("margin over", "margin", "The scores differ by more than max_margin."),
    Word("no same-source pair", "rule", "Left out, because no source gives a pair by itself."),
    Word("no rule", "rule", "The recipe has no build rule for the domain."),
    Word("other", "rule", "A reason of a strategy that does not come with the package."),
)
"""All words, in the order in which they are drawn."""
_NOT_WHOLE, _NOT_JUDGED = "(not whole)", "(not judged)"
REASONS: Mapping[str, str] = {
    "no response": "no response",
    "no whole response": _NOT_WHOLE,
    "only one scored response": "one usable",
    "only one source can be paired": "one source",
    "no scored response": _NOT_JUDGED,
    "no scored correct response": _NOT_JUDGED,
    "no scored incorrect response": _NOT_JUDGED,
    "no correct response": "all wrong",
    "no incorrect response": "all right",
    "identical texts": "identical",
    "the best response of the sources is the rejected text": "identical",
    "equal scores": "equal scores",
    "negative gap": "negative margin",
    "gap below min_margin": "margin under",
    "gap above max_margin": "margin over",
    "no same-source pair": "no same-source pair",
}
"""A strategy's countable reason -> the funnel's word; those in brackets are looked into."""
TARGET = "target: "
"""How reasons begin that are of the target's own responses."""
_PLACE = {word.word: place for place, word in enumerate(WORDS)}


CAUSES = {
    _NOT_WHOLE: ("truncated", "failed", "empty"),
    _NOT_JUDGED: ("unscorable", "judge failed", "no score"),
}
"""Where several hold, the first is the word."""


@dataclass(frozen=True)
class Said:
    """What one strategy says of some prompts, in the funnel's words."""

    prompt: Array
    """int8 `[prompts]`: position in `WORDS`; `PICKED` where it gives a pick."""
    by_source: Array
    """int8 `[prompts, sources]`, the same of each source alone."""


def words_of(strategy: Strategy, groups: Groups, selection: Selection) -> Said:
    """Translate a selection's refusals."""
    known = [REASONS.get(_plain(reason), "other") for reason in selection.refusals]
    lookup = np.array([*(_PLACE.get(word, PICKED) for word in known), PICKED], np.int8)
    prompt = lookup[np.where(selection.refusal >= 0, selection.refusal, -1)]
    alone = lookup[np.where(selection.by_source >= 0, selection.by_source, -1)]
    alone[selection.by_source == ABSENT] = _PLACE["no response"]
    for code, (reason, word) in enumerate(zip(selection.refusals, known, strict=True)):
        here, cells = selection.refusal == code, selection.by_source == code
        if word in CAUSES and (here.any() or cells.any()):
            causes = _causes(strategy, groups, _plain(reason))
            causes &= _looked_at(strategy, groups, reason)[:, None]
            names = np.array([_PLACE[name] for name in CAUSES[word]], np.int8)
            prompt[here] = names[_first(np.asarray(causes.any(axis=1)))][here]
            alone[cells] = names[_first(causes)][cells]
    return Said(prompt, alone)


def words_of_all(strategies: Mapping[str, Strategy], picked: Picked) -> dict[str, Said]:
    """What each table's strategy says; a source that it does not see has given no response."""
    found = {}
    for table, (groups, selection) in picked.own.items():
        said = words_of(strategies[table], groups, selection)
        if groups.sources != picked.groups.sources:
            places = [picked.groups.sources.index(name) for name in groups.sources]
            shape = (len(said.prompt), len(picked.groups.sources))
            wide = np.full(shape, _PLACE["no response"], np.int8)
            wide[:, places] = said.by_source
            said = Said(said.prompt, wide)
        found[table] = said
    return found


def _first(causes: Array) -> Array:
    """Place of the first cause that holds, along the last axis; the last one where none does."""
    place: Array = np.where(causes.any(axis=-1), causes.argmax(axis=-1), causes.shape[-1] - 1)
    return place


def _plain(reason: str) -> str:
    """A reason without the mark that it is of the target's own responses."""
    return reason.removeprefix(TARGET)


def _looked_at(strategy: Strategy, groups: Groups, reason: str) -> Array:
    """bool `[sources]`: the sources that a reason is about; `target` is a strategy's own name of
    the source that is the target itself."""
    own = np.array([name == getattr(strategy, "target", None) for name in groups.sources], np.bool_)
    if not own.any():
        return np.ones(len(own), np.bool_)
    return own if reason.startswith(TARGET) else ~own


def _causes(strategy: Strategy, groups: Groups, reason: str) -> Array:
    """bool `[prompts, sources, 3]`: which of a reason's causes hold in each cell."""
    whole = groups.columns["whole"]
    if REASONS[reason] == _NOT_WHOLE:
        finish = groups.columns["finish"]
        found = [~whole & (finish == FINISHES.index(name)) for name in ("length", "error")]
        return _cells(groups, [*found, ~whole & ~found[0] & ~found[1]])
    by, correct_by = (getattr(strategy, key, None) for key in ("by", "correct_by"))
    asked, asked_of = whole, by
    if reason == "no scored response":
        asked_of = correct_by or by
    elif (verdicts := groups.judgements.get(correct_by or "")) is not None:
        wrong = "incorrect" in reason
        asked = whole & (verdicts.value < RIGHT if wrong else verdicts.value >= RIGHT)
    judged = groups.judgements.get(asked_of or "")
    if judged is None:
        return _cells(groups, [np.zeros_like(whole), np.zeros_like(whole), asked])
    return _cells(groups, [asked & (judged.status == code) for code in (1, 2, -1)])


def _cells(groups: Groups, flags: Sequence[Array]) -> Array:
    """Whether any response of each prompt and source has each flag."""
    shape = (len(groups.prompt_ids), len(groups.sources))
    cell = cells_of(groups)
    found = [np.bincount(cell[flag], minlength=shape[0] * shape[1]) > 0 for flag in flags]
    return np.stack(found, axis=-1).reshape(*shape, len(flags))


def cells_of(groups: Groups) -> Array:
    """For each response, prompt x number of sources + source: sorted, as the rows are."""
    cells: Array = groups.columns["prompt"].astype(np.int64) * len(groups.sources)
    return cells + groups.columns["source"]


class Funnel:
    """Counts of one domain, block by block."""

    def __init__(
        self, sources: Sequence[str], tables: Sequence[str], origins: Sequence[str]
    ) -> None:
        self._sources, self._tables, self._origins = tuple(sources), tuple(tables), tuple(origins)
        shape = (len(origins), len(sources), len(WORDS) + 1)
        self._alone = {table: np.zeros(shape, np.int64) for table in tables}
        self._words: dict[str, list[Array]] = {table: [] for table in tables}
        self._origin: list[Array] = []

    def see(self, origin: Array, said: Mapping[str, Said]) -> None:
        """Take in some prompts; `origin`: position of each one's set in `origins`."""
        self._origin.append(origin.astype(np.int16))
        for table, words in said.items():
            self._words[table].append(words.prompt)
            counts = self._alone[table]
            for place in range(len(self._sources)):
                flat = origin.astype(np.int64) * counts.shape[2] + words.by_source[:, place] + 1
                found = np.bincount(flat, minlength=counts.shape[0] * counts.shape[2])
                counts[:, place] += found.reshape(counts.shape[0], -1)

    def report(self, placed: Placed) -> dict[str, Any]:
        """The funnel of the domain and of each set; `placed`: in the order seen."""
        origin = _joined(self._origin, np.int16)
        words = {table: _joined(found, np.int8) for table, found in self._words.items()}
        dropped = np.full(len(origin), _PLACE["other"], np.int8)
        for place, table in enumerate(BLAMED):
            if table in words:
                dropped[placed.blame == place] = words[table][placed.blame == place]
        whole = self._part(np.ones(len(origin), np.bool_), slice(None), placed, words, dropped)
        parts = {
            name: self._part(origin == place, slice(place, place + 1), placed, words, dropped)
            for place, name in enumerate(self._origins)
            if (origin == place).any()
        }
        return {**whole, "origins": parts}

    def _part(
        self,
        here: Array,
        sets: slice,
        placed: Placed,
        words: Mapping[str, Array],
        dropped: Array,
    ) -> dict[str, Any]:
        sft, dpo = placed.sft[here], placed.dpo[here]
        out = ~(sft | dpo)
        gives = {t: out & (words[t][here] == PICKED) if t in words else out[:0] for t in TABLES}
        return {
            "prompts": int(here.sum()),
            "sft_prompts": int(sft.sum()),
            "dpo_prompts": int(dpo.sum()),
            "in_both": int((sft & dpo).sum()),
            "dropped": int(out.sum()),
            "dropped_words": _counted(np.bincount(dropped[here][out] + 1, minlength=1)),
            "dropped_with_response": int(gives["sft"].sum()),
            "dropped_with_pair": int(gives["dpo"].sum()),
            "tables": {t: _gives(np.bincount(words[t][here] + 1, minlength=1)) for t in words},
            "sources": {
                table: {
                    name: _gives(counts[sets, place].sum(axis=0))
                    for place, name in enumerate(self._sources)
                }
                for table, counts in self._alone.items()
            },
        }


TABLES = ("sft", "dpo")


def unruled(prompts: int) -> dict[str, Any]:
    """The funnel of prompts of a domain that has no build rule."""
    none = {"sft_prompts": 0, "dpo_prompts": 0, "in_both": 0}
    with_none = {"dropped_with_response": 0, "dropped_with_pair": 0, "tables": {}, "sources": {}}
    words = {"no rule": prompts} if prompts else {}
    return {"prompts": prompts, **none, "dropped": prompts, "dropped_words": words, **with_none}


def _joined(blocks: Sequence[Array], kind: Any) -> Array:
    return np.concatenate(blocks) if blocks else np.empty(0, kind)


def _gives(counts: Array) -> dict[str, Any]:
    """`counts`: by word, from `PICKED` on."""
    return {"gives": int(counts[0]), "words": _counted(counts)}


def _counted(counts: Array) -> dict[str, int]:
    found = {WORDS[place].word: int(n) for place, n in enumerate(counts[1:]) if n}
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))
