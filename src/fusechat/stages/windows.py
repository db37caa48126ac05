"""Score windows over a whole domain: other units into raw ends, and windows without sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusechat.errors import PartError
from fusechat.files import read_json
from fusechat.groups import STATUSES, Array, Groups, Selection
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.groups import Tables, blocks
from fusechat.strategies._pair_columns import IDENTICAL
from fusechat.strategies._window import Windowed

FEW_GAPS = 50
"""With fewer gaps than this a window is not called senseless."""
LEAST_INSIDE = 0.02
"""Least share of a domain's gaps that a sensible window keeps."""
MIDDLE = (0.1, 0.9)
"""Quantiles that are offered in place of a senseless window."""
MOST_SPREAD = 0.1
"""Greatest spread of an annotator's scores, as a share of `min_margin`."""
_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass
class Measured:
    """The gaps and scores of one domain."""

    strategy: Windowed
    _gaps: list[Array] = field(default_factory=list)
    _scores: tuple[int, float, float] = (0, 0.0, 0.0)
    """Their number, mean, and sum of squared distances from it."""

    def see(self, groups: Groups) -> None:
        """Take in some of the domain's prompts."""
        measuring = self.strategy.measured_by().without_window()
        self.add(gaps_of(measuring.select_all(groups)))
        judged = groups.judgements.get(str(self.strategy.ranked_by()))
        if judged is not None:
            usable = groups.columns["whole"] & (judged.status == STATUSES.index("ok"))
            self._take(judged.value[usable & np.isfinite(judged.value)])

    def add(self, gaps: Array) -> None:
        """Take in gaps; nan where there is none."""
        with np.errstate(over="ignore"):
            self._gaps.append(gaps[~np.isnan(gaps)].astype(np.float32))

    @property
    def gaps(self) -> Array:
        """Chosen minus rejected score of each prompt and source, float32 as they are compared."""
        return np.concatenate([np.zeros(0, np.float32), *self._gaps])

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores; nan without any."""
        count, _, squares = self._scores
        return float(np.sqrt(squares / count)) if count else float("nan")

    def _take(self, scores: Array) -> None:
        if not len(scores):
            return
        count, mean, squares = self._scores
        both, apart = count + len(scores), float(scores.mean()) - mean
        squares += float(((scores - scores.mean()) ** 2).sum())
        squares += apart**2 * count * len(scores) / both
        self._scores = (both, mean + apart * len(scores) / both, squares)


def gaps_of(selection: Selection) -> Array:
    """Gap of each prompt and source, nan also where it is that of one text with itself."""
    if IDENTICAL not in selection.refusals:
        return selection.gap
    identical = selection.by_source == selection.refusals.index(IDENTICAL)
    return np.where(identical, np.nan, selection.gap)


def windowed(settings: BuildSettings) -> dict[str, Windowed]:
    """Domain -> its pair strategy, of those that have a window of scores."""
    found = {}
    for domain, rule in settings.domains.items():
        strategy = rule.strategies().get("dpo") if "dpo" in rule.split.asks else None
        if not isinstance(strategy, Windowed) or strategy.ranked_by() is None:
            continue
        if strategy.min_margin is not None or strategy.max_margin is not None:
            found[domain] = strategy
    return found


def resolve(inputs: Mapping[str, Path], settings: BuildSettings) -> BuildSettings:
    """The same rules with every window in raw units; the tables are read only if one is not."""
    wanted = {
        domain: Measured(strategy)
        for domain, strategy in windowed(settings).items()
        if strategy.window != "raw"
    }
    if not wanted:
        return settings
    for groups in blocks(inputs):
        domains = np.array(groups.domains, object)
        for domain, found in wanted.items():
            members = np.flatnonzero(domains == domain)
            if len(members):
                found.see(groups.take(members, settings.domains[domain].sources_of("dpo")))
    return _with(settings, {domain: _resolved(found) for domain, found in wanted.items()})


def resolved_as(
    inputs: Mapping[str, Path], settings: BuildSettings, build_folder: Path | None
) -> BuildSettings:
    """`resolve`, with the raw ends that a finished build used, where there is one."""
    manifest = None if build_folder is None else build_folder / "manifest.json"
    if manifest is None or not manifest.exists():
        return resolve(inputs, settings)
    said = read_json(manifest)["counts"].get("window", {})
    used = {
        domain: strategy.without_window().model_copy(
            update={name: said[domain][name] for name in ("min_margin", "max_margin")}
        )
        for domain, strategy in windowed(settings).items()
        if strategy.window != "raw" and domain in said
    }
    return resolve(inputs, _with(settings, used))


def window_notes(given: BuildSettings, used: BuildSettings) -> dict[str, dict[str, Any]]:
    """Domain -> how its window was given, where that was not in raw units."""
    raw = windowed(used)
    return {
        domain: {
            "window": strategy.window,
            "given_min_margin": strategy.min_margin,
            "given_max_margin": strategy.max_margin,
            "min_margin": raw[domain].min_margin if domain in raw else None,
            "max_margin": raw[domain].max_margin if domain in raw else None,
        }
        for domain, strategy in windowed(given).items()
        if strategy.window != "raw"
    }


def _resolved(found: Measured) -> Windowed:
    if not len(found.gaps):
        return found.strategy.without_window()  # nothing to pair, whatever the window
    return found.strategy.resolved(found.gaps, found.deviation)


def _with(settings: BuildSettings, strategies: Mapping[str, Windowed]) -> BuildSettings:
    rules = {
        domain: rule.model_copy(update={"dpo": strategies[domain]})
        if domain in strategies
        else rule
        for domain, rule in settings.domains.items()
    }
    return settings.model_copy(update={"root": rules})


def senseless(gaps: Array, low: float | None, high: float | None) -> str:
    """Why a raw window makes no sense with a domain's gaps, with the numbers; empty where it does.

    At least `FEW_GAPS` gaps must have been seen. It makes no sense where all of them lie on one
    side of it, or where both its ends are given and fewer than `LEAST_INSIDE` lie inside.
    """
    gaps = gaps[~np.isnan(gaps)]
    gaps.sort()
    if len(gaps) < FEW_GAPS:
        return ""
    below = (
        0.0
        if low is None
        else float(np.mean(gaps.astype(np.float32, copy=False) < np.float32(low)))
    )
    above = (
        0.0
        if high is None
        else float(np.mean(gaps.astype(np.float32, copy=False) > np.float32(high)))
    )
    inside = 1.0 - below - above
    one_side = max(below, above) == 1.0
    narrow = low is not None and high is not None and inside < LEAST_INSIDE
    if not (one_side or narrow):
        return ""
    seen = ", ".join(f"{level:.0%} {np.quantile(gaps, level):.4g}" for level in _LEVELS)
    return (
        f"of {len(gaps)} gaps {inside:.1%} lie inside {_end(low)} to {_end(high)}, "
        f"{below:.1%} below and {above:.1%} above; quantiles of the gaps: {seen}"
    )


def _end(value: float | None) -> str:
    return "no bound" if value is None else f"{value:.6g}"


def check_sense(domain: str, strategy: Windowed, gaps: Array) -> None:
    """Raises `PartError` where the window makes no sense with the gaps that were found."""
    if strategy.allow_narrow_window:
        return
    if fault := senseless(gaps, strategy.min_margin, strategy.max_margin):
        low, high = MIDDLE
        ends = [float(f"{np.quantile(gaps[~np.isnan(gaps)], level):.4g}") for level in MIDDLE]
        raise PartError(
            f"build.{domain}.dpo: the window does not suit the scores of "
            f"'{strategy.ranked_by()}': {fault}. To keep the middle {high - low:.0%} of the gaps "
            f"write window: quantiles, min_margin: {low}, max_margin: {high} "
            f"(here min_margin: {max(0.0, ends[0])}, max_margin: {ends[1]}); "
            "allow_narrow_window: true goes on with this one."
        )


def check_spread(inputs: Mapping[str, Path], settings: BuildSettings) -> None:
    """Raises `PartError` where an annotator's own noise is large beside a `min_margin`.

    The noise is `counts.self_test.spread` of its manifest: the largest difference that one
    response's score shows between ways of computing it.
    """
    units = Tables.of(inputs).annotations
    for domain, strategy in windowed(settings).items():
        by, low = str(strategy.ranked_by()), strategy.min_margin
        if low is None or low <= 0 or strategy.allow_narrow_window:
            continue
        spread = max(_spreads(units.get(by, ())), default=0.0)
        if spread > MOST_SPREAD * low:
            raise PartError(
                f"build.{domain}.dpo: the scores of '{by}' vary by {spread:.3g} with the way they "
                f"are computed, which is more than a tenth of min_margin ({low:.6g}), so that "
                "noise would make pairs. Score in float32, or raise min_margin to "
                f"{spread / MOST_SPREAD:.3g}; allow_narrow_window: true goes on."
            )


def _spreads(units: Iterable[Path]) -> Iterable[float]:
    for unit in units:
        if (unit / "manifest.json").exists():
            test = read_json(unit / "manifest.json").get("counts", {}).get("self_test") or {}
            if test.get("spread") is not None:
                yield float(test["spread"])
