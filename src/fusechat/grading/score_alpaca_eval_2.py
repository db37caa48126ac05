"""`fusechat score alpaca_eval_2 ANNOTATIONS.json`: AlpacaEval 2.0 from stored judgments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusechat.errors import Fault, MissingExtraError, RecipeError
from fusechat.grading._stored_judgments import one_or_all
from fusechat.metrics import agreement as agree
from fusechat.metrics import alpaca_eval as lc
from fusechat.settings import package_fault
from fusechat.tasks import _alpaca_files as files
from fusechat.tasks._alpaca_judgments import Judged, raise_all, read_judgments
from fusechat.tasks.alpaca_eval_2 import BASELINE

NAMED = 20
"""Items that are named; the others are counted."""


def score(path: Path, data_dir: Path | None) -> dict[str, Any]:
    """Length-controlled and plain win rate of the one model of a file of AlpacaEval's annotations.

    JSON: `length_controlled_winrate`, `win_rate`, `standard_error` (in per cent), `n` (judgments
    with a preference), `n_expected`, `status` (`ok`, or `partial` where items are left out),
    `left_out` (`missing`: instructions without a judgment; `no_preference`), wins, losses, draws.
    Several models or judges in a file: `{"models": [...]}`. The files of AlpacaEval are looked for
    in `data_dir`, else beside `path`. Raises `RecipeError` where a row cannot be read or is there
    twice, where its instruction is none of AlpacaEval's, and where a file is missing.
    """
    rows = read_judgments(path)
    gamed = _gamed(path, data_dir)
    order = _instructions(path, data_dir)
    found = []
    for (model, judge), judged in _by_model(rows).items():
        told = {"model": model, "judge": judge, "baseline": judged[0].baseline or BASELINE}
        found.append(told | _scored(path, judged, gamed, order))
    return one_or_all(path, found)


def agreement(path: Path, published: Path, data_dir: Path | None) -> dict[str, Any]:
    """How two judges' preferences agree on the same pairs of outputs, the first being ours.

    JSON: `agreement` (share of pairs of which both prefer the same output), `correlation`, both
    with intervals, `n`, and `not_published`: judgments of ours on other pairs, left out.
    Raises `RecipeError` where no pair is in both files, or one cannot be read.
    """
    theirs: dict[tuple[str, str, str], float] = {}
    for row in read_judgments(published):
        theirs[row.instruction, row.output_1, row.output_2] = row.preference
        theirs[row.instruction, row.output_2, row.output_1] = 1.0 - row.preference
    ours = read_judgments(path)
    both = [
        (row.preference, theirs[key])
        for row in ours
        if (key := (row.instruction, row.output_1, row.output_2)) in theirs
    ]
    if not both:
        message = f"none of its pairs of outputs is in {published}: there is nothing to compare."
        raise RecipeError([Fault(str(path), "", message)])
    told = agree.told([one for one, _ in both], [other for _, other in both])
    return {"ours": str(path), "published": str(published), **told,
            "not_published": len(ours) - len(both)}  # fmt: skip


def _by_model(rows: Sequence[Judged]) -> dict[tuple[str, str], list[Judged]]:
    found: dict[tuple[str, str], list[Judged]] = {}
    for row in rows:
        found.setdefault((row.model, row.judge), []).append(row)
    return found


def _scored(
    path: Path, rows: Sequence[Judged], gamed: lc.Gamed, order: Mapping[str, int] | None
) -> dict[str, Any]:
    """What the judgments of one model come to."""
    raise_all(path, _faults(path, rows, order, len(gamed.of_instruction)))
    numbers = [*range(len(rows))] if order is None else [order[row.instruction] for row in rows]
    liked = [row.preference for row in rows]
    known = [value for value in liked if not math.isnan(value)]
    silent = [n for n, value in zip(numbers, liked, strict=True) if math.isnan(value)]
    missing = sorted(set(gamed.of_instruction) - set(numbers))
    told = {
        "n": len(known), "n_expected": len(gamed.of_instruction),
        "status": "partial" if silent or missing else "ok",
        "left_out": {"missing": _named(missing), "no_preference": _named(silent)},
        "placed_by": "row" if order is None else "instruction",
    }  # fmt: skip
    if not known:
        nothing = dict.fromkeys(("length_controlled_winrate", "win_rate", "standard_error"))
        return {**nothing, **told, "why": "no judgment has a preference"}
    plain = lc.plain(known)
    shorter_by = [len(row.output_1) - len(row.output_2) for row in rows]
    difficulty = [gamed.of_instruction[number] for number in numbers]
    same = rows[0].model != "" and rows[0].model == rows[0].baseline
    rate = 50.0 if same else _length_controlled(liked, shorter_by, difficulty, gamed)
    return {
        "length_controlled_winrate": rate, "win_rate": plain.win_rate,
        "standard_error": plain.standard_error, **told, "wins": plain.wins,
        "losses": plain.losses, "draws": plain.draws, "discrete_win_rate": plain.discrete,
        "average_length": sum(len(row.output_2) for row in rows) / len(rows),
    }  # fmt: skip


def _length_controlled(
    liked: Sequence[float], shorter_by: Sequence[int], hard: Sequence[float], gamed: lc.Gamed
) -> float:
    if package_fault("sklearn", "evaluate"):
        raise MissingExtraError("the length-controlled win rate", "scikit-learn", "evaluate")
    return lc.length_controlled(liked, shorter_by, hard, gamed).length_controlled


def _faults(
    path: Path, rows: Sequence[Judged], order: Mapping[str, int] | None, expected: int
) -> Iterator[Fault]:
    """Rows that cannot be counted: of unknown instructions, doubled ones, of another baseline."""
    seen: dict[str, str] = {}
    for row in rows:
        place = str(path.parent / row.place)
        if (first := seen.setdefault(row.instruction, row.place)) != row.place:
            yield Fault(place, "", f"its instruction is judged at {first}, too. Keep one of them.")
        if order is not None and row.instruction not in order:
            yield Fault(place, "", f"no instruction of AlpacaEval: {row.instruction[:60]!r}.")
    for other in sorted({row.baseline for row in rows} - {BASELINE, ""}):
        yield Fault(
            str(path), "",
            f"its generator_1 is {other}; AlpacaEval 2.0 holds against {BASELINE}.",
        )  # fmt: skip
    if order is None and len(rows) != expected:
        lacking = files.DATA[0].missing(None)
        yield Fault(
            str(path), "",
            f"it has {len(rows)} of {expected} judgments; which ones only the baseline's file "
            f"tells: {lacking}",
        )  # fmt: skip


def _named(numbers: Sequence[int]) -> dict[str, Any]:
    return {"n": len(numbers), "items": list(numbers[:NAMED])}


def _gamed(path: Path, data_dir: Path | None) -> lc.Gamed:
    found = _file(1, path, data_dir)
    if found is None:
        missing = files.DATA[1].missing(str(data_dir or path.parent))
        raise RecipeError([Fault("", "--data-dir", missing)])
    try:
        return files.gamed_rows(found)
    except ValueError as error:
        raise RecipeError([Fault("", "--data-dir", str(error))]) from error


def _instructions(path: Path, data_dir: Path | None) -> dict[str, int] | None:
    """Instruction -> its number; None where the baseline's file is not there."""
    found = _file(0, path, data_dir)
    if found is None:
        return None
    rows = [row for _, row in files.baseline_rows(found) if isinstance(row, files.Baseline)]
    return {row.instruction: row.index for row in rows}


def _file(which: int, path: Path, data_dir: Path | None) -> Path | None:
    file = files.DATA[which]
    if (found := file.find(str(data_dir) if data_dir else None)) or data_dir:
        return found
    beside = [path.parent / name.rsplit("/", 1)[-1] for name in file.names]
    return next((one for one in beside if one.is_file()), None)
