"""The section on training: which charts there are, and the warnings above them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from fusechat import files
from fusechat.report import plots, training_panels, training_view
from fusechat.report.judged import Unit
from fusechat.report.plots import Level, Series
from fusechat.report.training_panels import Panel
from fusechat.report.training_runs import TrainingRun, training_runs


def _panels(*rows: dict[str, object]) -> dict[str, Panel]:
    return {panel.group: panel for panel in training_panels.panels(rows)}


def _lines(panel: Panel) -> dict[str, list[tuple[float, float]]]:
    return {line.name: list(line.points) for line in panel.lines}


def test_columns_become_panels_with_chosen_beside_rejected_and_held_out_beside_training() -> None:
    found = _panels(
        {"step": 1, "loss": 0.7, "rows": 8, "epoch": 0.1, "token_logps_chosen": -1,
         "logps/rejected": -9, "logps/chosen": -5, "eval_loss": 0.8},
        {"step": 2, "loss": 0.6, "token_logps_chosen": -2, "logps": {"chosen": -4, "rejected": -8}},
    )  # fmt: skip
    assert list(found) == ["loss", "token_logps", "logps"]
    assert _lines(found["loss"]) == {"training": [(1, 0.7), (2, 0.6)], "held-out": [(1, 0.8)]}
    assert _lines(found["logps"])["rejected"] == [(1, -9), (2, -8)]


def test_a_step_that_was_done_again_after_a_kill_is_drawn_once() -> None:
    found = _panels({"step": 1, "loss": 1.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 0.5})
    assert _lines(found["loss"]) == {"training": [(1, 1.0), (2, 0.5)]}


def test_numbers_that_are_not_finite_are_not_drawn() -> None:
    found = _panels({"step": 1, "loss": math.nan}, {"step": 2, "loss": 0.5})
    assert _lines(found["loss"]) == {"training": [(2, 0.5)]}


def test_held_out_log_probabilities_have_their_own_chart_with_the_values_before_training() -> None:
    found = _panels(
        {"step": 1, "token_logps_chosen": -1.0},
        {"step": 0, "held_out_token_logps_chosen": -2.0, "held_out_token_logps_rejected": -3.0},
        {"step": 9, "held_out_token_logps_chosen": -2.5, "held_out_token_logps_rejected": -4.0},
    )
    own = found["held_out_token_logps"]
    assert _lines(own) == {"chosen": [(0, -2.0), (9, -2.5)], "rejected": [(0, -3.0), (9, -4.0)]}
    assert own.levels == [Level(-2.0, "chosen"), Level(-3.0, "rejected")]
    assert own.about.first
    assert not found["token_logps"].about.first


def test_what_a_look_keeps_of_itself_is_no_curve() -> None:
    look = {
        "step": 3, "held_out_rows": 4, "held_out_lengths_chosen": 20.0, "answers": 8,
        "length_ratio": 1.1, "log_length_ratio_error": 0.1, "kl_tokens": 150, "kl_error": 0.1,
    }  # fmt: skip
    assert _panels(look) == {}
    kept = _panels({**look, "kl": 0.1, "lengths_answer": 30.0, "cut_answers": 0.0})
    assert list(kept) == ["kl", "lengths_answer", "cut_answers"]
    assert kept["kl"].levels == []


def test_three_sides_are_three_lines_of_one_chart() -> None:
    sides = ("source_chosen", "target_chosen", "rejected")
    found = _panels(
        {"step": 1, **{f"rewards_{side}": 0.1 for side in sides}, "rewards_chosen": 0.2}
    )
    (panel,) = found.values()
    assert [line.name for line in panel.lines] == [
        "source's", "target's own", "rejected", "chosen",
    ]  # fmt: skip
    assert [line.kind for line in panel.lines] == ["main", "chosen", "rejected", "chosen"]


def test_a_number_that_nobody_described_is_drawn_and_folded_away() -> None:
    (panel,) = _panels({"step": 1, "my_own_number": 3.0}).values()
    assert panel.about.title == "My own number"
    assert not panel.about.first


def test_a_level_is_inside_the_picture_also_where_no_point_is_near() -> None:
    line = Series("x", [(0.0, 1.0), (5.0, 2.0)], "main")
    root = ET.fromstring(plots.curves("x", [line], [Level(9.0, "chosen")]))
    (level,) = (e for e in root.findall("line") if e.attrib["class"] == "level chosen")
    assert 0 <= float(level.attrib["y1"]) < 40


@pytest.mark.parametrize(
    ("step", "last", "wanted"), [(20, 20, "step 20"), (900, 1200, "steps 900 to 1,200")]
)
def test_a_warning_says_what_since_when_and_what_to_try(step: int, last: int, wanted: str) -> None:
    said = {
        "kind": "chosen_falls", "step": step, "last": last, "text": "It falls.",
        "advice": ["less", "more"],
    }  # fmt: skip
    (run,) = training_view.runs([TrainingRun("train/dpo", [], [], [said])])
    assert run["warnings"] == [
        {
            "title": "Preferred responses become less likely", "when": wanted, "text": "It falls.",
            "advice": ["less", "more"],
        }
    ]  # fmt: skip


def test_every_warning_that_there_is_has_a_title() -> None:
    import inspect
    import re

    from fusechat.training import drift

    kinds = set(re.findall(r'(?:return|said =) \(?"(\w+)", text', inspect.getsource(drift)))
    assert kinds == set(training_view._TITLES)


def test_how_often_was_looked_is_said_and_that_nothing_drifted_only_then() -> None:
    look: dict[str, Any] = {"step": 0, "held_out_rows": 12, "answers": 24}
    calm = TrainingRun("train/dpo", [], [look, {**look, "step": 5}])
    warned = TrainingRun("train/dpo", [], [{**look, "answers": 0}], [{
        "kind": "x_y", "step": 1, "last": 1, "text": "", "advice": [],
    }])  # fmt: skip
    runs = training_view.runs([calm, warned, TrainingRun("train/sft")])
    assert [run["watched"] for run in runs] == [
        "Looked at 2 times: 12 held-out rows and 24 answers to held-out prompts, "
        "and nothing was seen to drift.",
        "Looked at once: 12 held-out rows.",
        "",
    ]
    assert runs[1]["warnings"][0]["title"] == "X y"


def test_runs_are_read_from_the_folders_of_finished_training_units(tmp_path: Path) -> None:
    files.append_jsonl(tmp_path / "metrics.jsonl", {"step": 1, "loss": 0.1})
    files.append_jsonl(tmp_path / "watch.jsonl", {"step": 0, "kl": 0.0})
    counts = {"counts": {"warnings": [{"kind": "kl_is_large"}]}}
    units = [
        Unit("train/dpo", tmp_path, "k", counts), Unit("train/sft", tmp_path, "k", None),
        Unit("build", tmp_path, "k", counts), Unit("train/old", tmp_path / "no", "k", {}),
    ]  # fmt: skip
    dpo, old = training_runs(units)
    assert dpo == TrainingRun(
        "train/dpo", [{"step": 1, "loss": 0.1}], [{"step": 0, "kl": 0.0}], [{"kind": "kl_is_large"}]
    )
    assert old == TrainingRun("train/old", [], [], [])


def test_the_page_has_the_warnings_above_the_charts_and_escapes_them(
    whole: tuple[Path, Path],
) -> None:
    from fusechat import report

    page = report.write(*whole).read_text()
    section = page[page.index('id="training"') : page.index('id="pairs"')]
    assert "They fall &lt;b&gt;far&lt;/b&gt;." in section
    assert section.index("Try: a lower learning_rate; a larger beta.") < section.index(
        "Share of pairs ranked right"
    )
    assert "Looked at 4 times: 12 held-out rows" in section
    assert 'class="level chosen"' in section
