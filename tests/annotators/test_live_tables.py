"""LiveBench's data analysis: mappings by F1, tables as pandas would read them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators import _live_tables as tables
from fusechat.annotators._live_question import NotGradedError
from fusechat.annotators._live_table_reading import UnreadableTableError, read_table
from live_cases import question


@pytest.mark.parametrize(
    ("response", "value"),
    [("Case_Number", 1.0), (" 'case_number'.\n", 1.0), ("the case_number", 0.0), ("", 0.0)],
)
def test_a_class_is_named_by_the_whole_response(response: str, value: float) -> None:
    assert tables.cta(question("cta", "case_number"), response).value == value


TRUTH = '{"a": "x", "b": "y", "c": "z"}'


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (TRUTH, 1.0), ("```python\n{'a': 'x', 'b': 'y',\n 'c': 'z'}\n```", 1.0),
        ("{'a': 'x', 'b': 'z', 'd': 'w'}", 0.33),  # 1 hit, 2 false, 2 unmet: 2/6
        ("{'a': 'x'}", 0.5),  # 1 hit, 2 unmet: 2/4
        ("{'a': None}", 0.0), ("{}", 0.0), ("['a']", 0.0), ("I cannot.", 0.0), ("{'a': f()}", 0.0),
        ("```python\n{'a': 'x'}\n``` or ```python\n{'b': 'y'}\n```", 0.0),  # both fences as one
        ("```\n" + TRUTH + "\n```", 0.0), (r"{'a': '\d'}", 0.0), ("[" * 5000, 0.0),
    ],
)  # fmt: skip
def test_a_mapping_is_marked_by_the_f1_of_its_pairs(response: str, value: float) -> None:
    assert tables.tablejoin(question("tablejoin", TRUTH), response).value == value


def asked(form: str, truth: str, corrected: bool) -> tables.Question:
    text = f"Please convert the Input Table from HTML format to {form} format. Please respond"
    return question("tablereformat", truth, text, corrected=corrected)


def marks(form: str, truth: str, response: str) -> tuple[float, float]:
    """By the corrected rules, and by those of autumn 2024."""
    return tuple(
        tables.tablereformat(asked(form, truth, corrected), response).value
        for corrected in (True, False)
    )  # type: ignore[return-value]


CSV = "Name,age\nAnn,3\nBob,4.0\n"


@pytest.mark.parametrize(
    ("response", "both"),
    [
        (CSV, (1.0, 1.0)), (f"```csv\n{CSV}```", (1.0, 1.0)),
        ("name , AGE\nAnn,3.0\nBob,4", (1.0, 1.0)),
        (f"Here is the table:\n{CSV}", (1.0, 1.0)), (f"Sure!\n{CSV}", (0.0, 0.0)),
        ("Name,age\nBob,4\nAnn,3", (0.0, 1.0)), ("Name,age\nAnn,4\nBob,3", (0.0, 1.0)),
        ("Name,age\nAnn,3", (0.0, 0.0)), ("Name,age\nAnn,3\nBob,5", (0.0, 0.0)),
        ("age,Name\n3,Ann\n4,Bob", (1.0, 1.0)), ("index,Name,age\n0,Ann,3\n1,Bob,4", (1.0, 0.0)),
        ("Name,age\nAnn ,3\nBob,4", (1.0, 0.0)), ("Name,age\nAnn,3,\nBob,4", (0.0, 0.0)),
        ("", (0.0, 0.0)),
    ],
)  # fmt: skip
def test_a_table_in_csv_is_held_against_the_true_one(
    response: str, both: tuple[float, float]
) -> None:
    assert marks("CSV", CSV, response) == both


def test_by_the_rules_of_2024_a_table_with_an_empty_cell_is_never_right() -> None:
    truth = "Name,age\nAnn,3\nBob,\n"
    assert marks("CSV", truth, truth) == (1.0, 0.0)
    assert marks("CSV", truth, "Name,age\nAnn,3\nBob,NaN\n") == (1.0, 0.0)


JSON = '{"7": {"Name": "Ann", "age": 3}, "2": {"Name": "Bob", "age": 4.0}}'


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (JSON, 1.0), ('[{"Name": "Ann", "age": 3}, {"Name": "Bob", "age": 4}]', 1.0),
        ('[{"Name": "Ann", "age": "3"}, {"Name": "Bob", "age": "4.0"}]', 1.0),
        ('{"Name": "Ann", "age": 3}\n{"Name": "Bob", "age": 4}', 1.0),
        ('{"Name": ["Ann", "Bob"], "age": [3, 4]}', 0.0), ('[{"Name": "Ann", "age": 3}]', 0.0),
        ('[{"Name": "Ann", "age": 3}, {"Name": "Bob"}]', 0.0), ("[1, 2]", 0.0),
        ("[" * 100_000, 0.0),
        ('[{"Name": "Ann", "age": 3}, {"Name": "Bob", "age": ' + "9" * 400 + "}]", 0.0),
    ],
)  # fmt: skip
def test_json_may_be_a_list_or_an_object_of_rows_or_lines(response: str, value: float) -> None:
    assert marks("JSON", JSON, response) == (value, value)


HTML = (
    '<table border="1"><thead><tr><th>Name</th><th>sum</th></tr></thead>'
    "<tbody><tr><td>A &amp; B</td><td>1234</td></tr></tbody></table>"
)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (HTML, 1.0), (HTML.replace("1234", "1,234.0"), 1.0), (HTML.replace("><", ">\n  <"), 1.0),
        (HTML.replace("th>", "td>"), 1.0),
        (HTML.replace("thead", "tbody").replace("th>", "td>"), 0.0),
        (HTML.replace("1234", "1235"), 0.0), ("<p>none</p>", 0.0), ("<![x", 0.0),
        ("<tr><th>Name<th>sum<tr><td>A & B<td>1234", 1.0),
    ],
)  # fmt: skip
def test_html_is_read_by_its_rows_and_heads(response: str, value: float) -> None:
    assert marks("HTML", HTML, response) == (value, value)


def test_a_format_that_is_not_known_is_not_graded() -> None:
    with pytest.raises(NotGradedError, match="unknown format"):
        tables.tablereformat(asked("XML", CSV, True), CSV)


def test_columns_are_typed_as_a_whole() -> None:
    assert read_table("csv", "a,b,c\n1,x,True\n2.5,NA,False") == {
        "a": [1.0, 2.5], "b": ["x", None], "c": [True, False],
    }  # fmt: skip
    assert read_table("tsv", "a\ta\n1\t1e2\nx\t") == {"a": ["1", "x"], "a.1": [100.0, None]}
    assert read_table("jsonl", '{"a": 1}\n{"b": null}') == {"a": [1.0, None], "b": [None, None]}
    with pytest.raises(UnreadableTableError, match="not known"):
        read_table("xml", "")


CELL = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=6)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_what_is_written_as_csv_or_json_reads_as_itself(rows: list[tuple[str, str]]) -> None:
    texts = [{"a": f"x{left}", "b": f"y{right}"} for left, right in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["a", "b"])
    writer.writeheader()
    writer.writerows(texts)
    wanted = {name: [row[name] for row in texts] for name in ("a", "b")}
    assert read_table("csv", out.getvalue()) == wanted
    assert read_table("json", json.dumps(texts)) == wanted
    assert read_table("jsonl", "\n".join(map(json.dumps, texts))) == wanted
