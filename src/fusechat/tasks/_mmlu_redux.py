"""Rows of MMLU-Redux 2.0 in the layouts that it is found in, and what its annotators found wrong.

Published: a folder for each of 57 subjects with 100 rows (`question`, `choices`, `answer` from 0,
`error_type`, `correct_answer`), as `datasets` saves them or as Parquet. A third-party sample of
2,000 rows (`{"dev": [...], "test": [...]}`, options by letter) has `id` alone, which is the row's
place in all 5,700, the subjects in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from fusechat.columns import FileReadError
from fusechat.tasks._multiple_choice import gold_letter, rows_of_file

_NAMES = """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology
    college_chemistry college_computer_science college_mathematics college_medicine college_physics
    computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
    formal_logic global_facts high_school_biology high_school_chemistry
    high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics
    high_school_microeconomics high_school_physics high_school_psychology high_school_statistics
    high_school_us_history high_school_world_history human_aging human_sexuality international_law
    jurisprudence logical_fallacies machine_learning management marketing medical_genetics
    miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
    professional_accounting professional_law professional_medicine professional_psychology
    public_relations security_studies sociology us_foreign_policy virology world_religions
"""
SUBJECTS = tuple(_NAMES.split())
"""All 57, by name."""
EACH = 100
"""Rows of one subject."""
ALL, SOUND = 5_700, 5_330
"""Rows, and those whose `error_type` is `ok`."""
_KINDS = ("*.arrow", "*.parquet", "*.jsonl", "*.json", "*.csv")
_STATE = ("dataset_info.json", "state.json", "dataset_infos.json")


def read_redux(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows with their places; each has `subject` and `number` (its place in the subject) beside
    the publisher's columns, `choices` a list and `answer` a place from 0."""
    if path.is_dir():
        yield from _folder(path)
    elif path.name.endswith(".json"):
        yield from _sample(path)
    else:
        yield from _counted(rows_of_file(path), None)


def says_errors(path: Path) -> bool:
    """Whether the rows say what the annotators found wrong."""
    return any(isinstance(row, Mapping) and "error_type" in row for _, row in read_redux(path))


def corrected(row: Mapping[str, Any]) -> tuple[list[str], str]:
    """Options and gold letters (several with commas) as the annotators would have them.

    A wrong label is replaced, a missing right option takes the place of the labelled one, and of
    several right options each counts. Raises `ValueError` where they gave nothing that can be
    used: questions and options that are not clear, and corrections that name no option.
    """
    options, label = list(row["choices"]), row.get("answer")
    gold = gold_letter(label, len(options))
    kind, said = row.get("error_type"), str(row.get("correct_answer") or "").strip()
    if kind == "ok":
        return options, gold
    if kind == "no_correct_answer" and said:
        options[ascii_uppercase.index(gold)] = said
        return options, gold
    named = (
        _named(said, options) if kind in ("wrong_groundtruth", "multiple_correct_answers") else ()
    )
    if not named or (kind == "wrong_groundtruth" and len(named) != 1):
        raise ValueError(f"error_type {kind}, not corrected")
    return options, ",".join(named)


def _named(said: str, options: list[str]) -> tuple[str, ...]:
    """Letters of options that a correction names: places from 0, letters, or their texts."""
    if said in options:
        return (ascii_uppercase[options.index(said)],)
    parts = said.strip("()").replace(" and ", ",").replace(" or ", ",").split(",")
    found = []
    for part in (one.strip().strip("()") for one in parts):
        if part.isdecimal() and int(part) < len(options):
            found.append(ascii_uppercase[int(part)])
        elif len(part) == 1 and part.upper() in ascii_uppercase[: len(options)]:
            found.append(part.upper())
        else:
            return ()
    return tuple(sorted(set(found)))


def _folder(path: Path) -> Iterator[tuple[str, Any]]:
    """The subjects' files in the order of their names; of a subject the first kind of `_KINDS`."""
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for kind in _KINDS:
            files = sorted(p for p in folder.rglob(kind) if p.name not in _STATE)
            if files:
                yield from _counted(
                    (row for file in files for row in rows_of_file(file)), folder.name
                )
                break


def _counted(rows: Iterator[tuple[str, Any]], subject: str | None) -> Iterator[tuple[str, Any]]:
    counts: dict[str, int] = {}
    for place, row in rows:
        if not isinstance(row, Mapping):
            yield place, row
            continue
        name = subject or str(row.get("subject") or "all")
        number = counts[name] = counts.get(name, -1) + 1
        told = f"{name}/{place}" if subject else place
        yield told, {**row, "subject": name, "number": number}


def _sample(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileReadError(f"{path} is not JSON: {error}") from error
    if isinstance(found, list):
        yield from _counted(((f"{path.name}[{n}]", row) for n, row in enumerate(found)), None)
        return
    if not isinstance(found, Mapping):
        raise FileReadError(f"{path} holds neither rows nor splits of rows.")
    for split in ("dev", "test"):
        for number, row in enumerate(found.get(split) or ()):
            yield f"{path.name}:{split}[{number}]", _of_sample(row)


def _of_sample(row: Any) -> Any:
    """A row of the sample as the publisher has it, without what the sample left out."""
    if not isinstance(row, Mapping) or not isinstance(row.get("choices"), Mapping):
        return row
    letters = sorted(row["choices"])
    place = row.get("id")
    number = place if isinstance(place, int) and 0 <= place < ALL else None
    return {
        "question": row.get("question"),
        "choices": [row["choices"][letter] for letter in letters],
        "answer": letters.index(row["answer"]) if row.get("answer") in letters else None,
        "subject": SUBJECTS[number // EACH] if number is not None else "all",
        "number": number % EACH if number is not None else place,
    }
