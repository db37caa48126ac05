"""Rows of a user's JSON-lines file: read whole, or refused with every fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from fusechat.errors import RecipeError
from fusechat.grading.rows import read_rows


class Answer(BaseModel):
    id: str | int | None = None
    text: str
    weight: float = 1.0


def written(tmp_path: Path, content: bytes | str) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def faults(tmp_path: Path, content: bytes | str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_rows(written(tmp_path, content), Answer)
    assert caught.value.exit_code == 2
    return [str(fault) for fault in caught.value.faults]


def test_rows_come_with_their_line_numbers_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, '\n{"text": "a"}\n  \n{"text": "b", "id": 7, "other": [1]}')
    assert read_rows(path, Answer) == [(2, Answer(text="a")), (4, Answer(text="b", id=7))]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path, ""), Answer) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [("5", "5"), ("1.50", "1.50"), ("1e2", "1e2"), ("-0", "-0"), ("9" * 6000, "9" * 6000)],
)
def test_a_number_for_a_text_is_taken_as_it_is_written(
    tmp_path: Path, number: str, text: str
) -> None:
    [(_, row)] = read_rows(written(tmp_path, f'{{"text": {number}}}'), Answer)
    assert row.text == text


def test_a_number_where_a_number_is_wanted_stays_one(tmp_path: Path) -> None:
    [(_, row)] = read_rows(written(tmp_path, '{"text": "a", "weight": 2.5, "id": 3}'), Answer)
    assert (row.weight, row.id) == (2.5, 3)


def test_a_line_separator_within_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    [(_, row)] = read_rows(written(tmp_path, '\ufeff{"text": "a\u2028b"}\r\n'), Answer)
    assert row.text == "a\u2028b"


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path) -> None:
    [(_, row)] = read_rows(written(tmp_path, r'{"text": "a\ud800\u0000"}'), Answer)
    assert row.text == "a\ufffd\x00"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"text": ', "not JSON"),
        (b"[1, 2]", "a list, not an object"),
        (b"12", "a number, not an object"),
        (b'{"txt": "a"}', "'text' is missing"),
        (b'{"text": null}', "'text': input should be a valid string"),
        (b'{"text": true}', "'text': input should be a valid string"),
        (b'{"text": NaN}', "NaN is no number of JSON"),
        (b'{"text": "\xff"}', "not UTF-8 (byte 10)"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "a", "id": ' + b"1" * 6000 + b"}", "digits"),
    ],
)
def test_a_line_that_is_no_row_is_told_with_its_place(
    tmp_path: Path, line: bytes, told: str
) -> None:
    [fault] = faults(tmp_path, b'{"text": "fine"}\n' + line + b"\n")
    assert fault.startswith(f"{tmp_path / 'rows.jsonl'}:2  ")
    assert told in fault


def test_a_missing_field_is_told_with_what_a_row_needs(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, "{}")
    assert fault.endswith(
        "'text' is missing. Write one object a line with 'text' and, where you like, "
        "'id', 'weight'."
    )


def test_all_faults_are_told_at_once_and_many_are_counted(tmp_path: Path) -> None:
    assert [f.split("  ")[0][-2:] for f in faults(tmp_path, "1\n{}\n[]\n")] == [":1", ":2", ":3"]
    many = faults(tmp_path, "{}\n" * 25)
    assert len(many) == 21
    assert many[-1].endswith("and 5 more such lines.")


@pytest.mark.parametrize("place", ["nowhere.jsonl", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(RecipeError, match=r"(No such file|Is a directory).*JSON-lines file"):
        read_rows(tmp_path / place, Answer)
