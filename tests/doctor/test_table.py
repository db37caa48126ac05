"""The text of an examination: what was not seen is said, and faults come first."""

from __future__ import annotations

from fusechat.doctor.findings import Examination, Finding, ModelRow, ordered
from fusechat.doctor.table import format_examination


def test_models_that_were_not_seen_are_counted_and_have_question_marks() -> None:
    rows = (
        ModelRow("sources.a", "acme/a", looked=False, licence="unknown"),
        ModelRow("target", "b", True, "once", "accepted", "</s>", "none", "4096", "mit"),
    )
    text = format_examination(Examination("mine", rows, ()))
    lines = text.splitlines()
    assert lines[1].split() == ["sources.a", "acme/a", "?", "?", "?", "?", "?", "unknown"]
    assert "0 faults, 0 warnings, 0 notes in mine. 1 of 2 models could not be looked at." in text
    assert "no legal advice" in text


def test_no_word_of_licences_where_none_is_known() -> None:
    rows = (ModelRow("target", "b", looked=True, licence="unknown"),)
    assert "legal" not in format_examination(Examination("mine", rows, ()))


def test_faults_come_first_and_nothing_is_told_twice() -> None:
    note = Finding("note", "date-fixed", "a", place="target")
    fault = Finding("fault", "bos-doubled", "b", "mend it", "sources.x")
    found = Examination("mine", (), ordered([note, fault, note]))
    assert found.findings == (fault, note)
    assert not found.healthy
    text = format_examination(found)
    assert text.index("bos-doubled") < text.index("date-fixed")
    assert "mend: mend it" in text
    assert "1 fault, 0 warnings, 1 note in mine." in text
