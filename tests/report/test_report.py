from __future__ import annotations

import re
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from markupsafe import Markup

import fusechat
from fusechat import files, report, tables
from fusechat.metrics.text import raw_score
from fusechat.records import Dropped, Pair, Prompt
from fusechat.report.collect import collect
from fusechat.report.judged import quantiles
from fusechat.report.render import render

VOID = {"meta", "link", "br", "wbr", "img", "col", "input", "hr"}


class Page(HTMLParser):
    """Tags and attributes of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open = Counter[str](), list[tuple[str, str]](), list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def text(whole: tuple[Path, Path]) -> str:
    return report.write(*whole).read_text(encoding="utf-8")


def test_the_page_is_well_nested_and_has_its_seven_sections(text: str) -> None:
    page = Page(text)
    assert page.tags["section"] == 7
    assert page.tags["h1"] == page.tags["header"] == 1
    ids = [value for name, value in page.attributes if name == "id"]
    assert ids[::2] == ["result", "funnel", "sources", "why", "training", "pairs", "made"]


def test_the_page_asks_for_nothing_outside_itself(text: str) -> None:
    page = Page(text)
    assert page.tags["script"] == page.tags["img"] == page.tags["iframe"] == 0
    links = [v for n, v in page.attributes if n in ("src", "href", "srcset", "action", "data")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_a_script_in_a_response_is_shown_as_text(text: str, made: ModuleType) -> None:
    assert made.ATTACK not in text
    assert "&lt;script&gt;document.title=" in text


def test_every_table_has_a_caption_and_every_chart_a_name_or_no_role(text: str) -> None:
    page = Page(text)
    assert page.tags["table"] == page.tags["caption"]
    for svg in re.findall(r"<svg[^>]*>", text):
        assert 'aria-hidden="true"' in svg or 'aria-label="' in svg


def test_rows_are_counted_as_they_lie_in_the_tables(whole: tuple[Path, Path]) -> None:
    run, root = whole
    found = collect(run, root)
    build = next(unit for unit in found.units if unit.name == "build")
    for use in ("sft", "dpo"):
        counted = sum(sum(counts.values()) for counts in found.chosen[use].values())
        assert counted == tables.count_rows(build.folder / use) > 0
    dropped = list(tables.read_table(build.folder / "dropped", Dropped))
    assert found.build_drops.total() == len(dropped)
    assert sum(found.prompts.values()) == 280
    assert found.read_drops["duplicate", "math", "the same messages are in mini_math"] == 19
    assert sum(sum(row.finishes.values()) for row in found.responses) == 4 * 4 * 280
    assert found.judges["math"].statuses.total() == 4 * 4 * 90
    assert found.train_drops == {("train/sft", "code", "prompt and response exceed max_length"): 2}


def test_ten_pairs_are_drawn_over_all_domains_and_sources_and_always_the_same(
    whole: tuple[Path, Path],
) -> None:
    first, second = collect(*whole), collect(*whole)
    assert len(first.pairs) == 10
    assert first.pairs == second.pairs
    assert {pair.domain for pair in first.pairs} == set(first.chosen["dpo"])
    assert len({(pair.domain, pair.sources[0]) for pair in first.pairs}) == 10
    build = next(unit for unit in first.units if unit.name == "build")
    rows = tables.read_table(build.folder / "dpo", Pair)
    known = {(row.messages, row.chosen, row.rejected): row for row in rows}
    for pair in first.pairs:
        chosen, rejected = pair.sides
        row = known[pair.messages, chosen[2], rejected[2]]
        assert (chosen[3], rejected[3]) == (row.chosen_score, row.rejected_score)
        assert (pair.domain, pair.origin, pair.sources, pair.margin) == (
            row.domain, row.origin, row.sources, row.margin,
        )  # fmt: skip


def test_reasons_and_counts_stand_in_the_page(text: str) -> None:
    for words in ("margin below min_margin", "time-out after 5 s", "the row has no question"):
        assert words in text
    assert "<b>4,480</b> responses" in text


def test_the_same_run_gives_the_same_page(whole: tuple[Path, Path], text: str) -> None:
    assert report.write(*whole).read_text(encoding="utf-8") == text


def test_a_run_of_data_only_replaces_training_and_evaluation_by_one_line(
    tmp_path: Path, made: ModuleType
) -> None:
    space = made.Workspace(tmp_path)
    made.build_data(space)
    text = report.write(space.run(), tmp_path).read_text()
    Page(text)
    assert "This run evaluated no model." in text
    assert "4,480 responses to 280 prompts became 144 SFT rows and 132 DPO pairs." in text
    assert "Nothing was trained in this run." in text
    assert "Ten pairs to read" in text


def test_a_real_run_explains_its_pairs(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "tiny.yaml"
    fusechat.run(fusechat.load_recipe(recipe), tmp_path)
    (page,) = tmp_path.glob("runs/*/report.html")
    text = page.read_text(encoding="utf-8")
    Page(text)
    (path,) = tmp_path.glob("build-*/analysis.json")
    chat = files.read_json(path)["domains"]["chat"]
    funnel, window = chat["funnel"], chat["windows"]
    assert f'aria-label="chat: SFT {funnel["sft_prompts"]}, DPO {funnel["dpo_prompts"]}' in text
    assert f"{window['kept']} of {window['prompts']} prompts have a pair" in text
    for source, found in funnel["sources"]["dpo"].items():
        assert f'aria-label="chat, {source}: gives one {found["gives"]}' in text
    for heading in ("Margins against the window", "Yield under other windows",
                    "Whose responses win", "One source against another",
                    "Length and style of the pairs", "Reward against length",
                    "The same pool with other sources"):  # fmt: skip
        assert f"<h3>{heading}</h3>" in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path, made: ModuleType) -> None:
    space = made.Workspace(tmp_path)
    space.units.append({"name": "prompts", "folder": "prompts-0", "key": "0"})
    run = space.run(recipe="")
    text = report.write(run, tmp_path).read_text()
    Page(text)
    assert "not done" in text
    assert "No responses were sampled in this run." in text
    assert "This run built no pairs." in text


def test_a_loss_opens_the_page_as_a_loss(tmp_path: Path, made: ModuleType) -> None:
    skill = dict(made.SKILL) | {"train.dpo": (0.05, 0.1, 0.05), "train.sft": (0.1, 0.1, 0.1)}
    space = made.Workspace(tmp_path)
    made.build_evaluation(space, skill)
    text = report.write(space.run(), tmp_path).read_text()
    assert '<p class="verdict loss">A loss: the fused model' in text


def test_one_task_has_one_forest_of_all_pairs_and_more_tasks_have_one_for_each_pair(
    tmp_path: Path, made: ModuleType, text: str
) -> None:
    assert text.count('<table class="forest">') == 5
    space = made.Workspace(tmp_path)
    made.build_evaluation(space, made.SKILL, {"only": 20})
    alone = report.write(space.run(), tmp_path).read_text()
    assert alone.count('<table class="forest">') == 1
    assert 'data-task="average"' not in alone


def test_an_evaluation_without_sources_and_with_nothing_scored_has_a_page(
    tmp_path: Path, made: ModuleType
) -> None:
    space = made.Workspace(tmp_path)
    made.build_evaluation(space, {"target": (0.5,)}, {"only": 4})
    folder = space.folder("evaluate/compare")
    metrics = files.read_json(folder / "metrics.json")
    entry = metrics["tasks"]["only"]["models"]["target"]
    entry |= {"accuracy": None, "accuracy_strict": None, "low": None, "high": None}
    entry |= {"accuracy_missing": "none of 4 items was scored", "mean_tokens": None}
    files.write_json(folder / "metrics.json", metrics)
    text = report.write(space.run(), tmp_path).read_text()
    Page(text)
    assert "none of 4 items was scored" in text
    assert "chars" in text


def test_a_win_rate_stands_under_a_heading_of_its_own_with_its_further_readings(
    graded: tuple[Path, Path],
) -> None:
    page = graded[0].read_text()
    Page(page)
    heads = re.findall(r'<tr class="metric"><th[^>]*>(.*?)</th>', page)
    assert heads == ["Accuracy", "Win rate against base"] * 2  # ours, then all sources
    assert "average of all tasks" in page
    assert page.count("by meaning: against itself") == 1
    assert "(one of them a win rate against base)" in page
    assert "without a whole response to be compared with" in page
    assert "mini_advice (win rate)" in Markup(page).striptags()
    for model in ("train.sft", "train.dpo", "gemma"):
        place = f'data-task="mini_advice" data-model="{model}" data-field='
        for field in ("accuracy", "length_controlled.value", "length_controlled.low", "mean_score"):
            assert f'{place}"{field}"' in page, (model, field)
    assert 'data-model="target" data-field="length_controlled.value"' not in page


def test_answers_of_a_win_rate_stand_side_by_side_with_their_scores(
    graded: tuple[Path, Path],
) -> None:
    found = collect(graded[0].parent, graded[1]).answers
    page = graded[0].read_text()
    assert [[answer.model for answer in asked.answers] for asked in found] == [
        ["target", "train.sft", "train.dpo"]
    ] * 3
    items = {
        (row["model"], row["prompt_id"]): row
        for row in tables.read_dicts(next(graded[1].glob("evaluate/compare-*")) / "items")
    }
    for asked in found:
        prompt = Prompt.of([message.model_dump() for message in asked.messages], domain="x").id
        for answer in asked.answers:
            assert answer.text.startswith(f"{answer.model} says: ")
            row = items[answer.model, prompt]
            assert (answer.score, answer.value) == (row["score"], row["value"])
            assert f"score {raw_score(answer.score)}" in page
    assert page.count("held against</span>") == 3
    assert "<b>bread</b>" not in page


def test_a_reading_at_equal_lengths_that_is_missing_says_why(graded: tuple[Path, Path]) -> None:
    found = collect(graded[0].parent, graded[1])
    metrics = deepcopy(found.metrics)
    assert metrics is not None
    entry = metrics["tasks"]["mini_advice"]["models"]["train.dpo"]
    entry["length_controlled"] |= {"value": None, "low": None, "value_missing": "no item at all"}
    page = render(replace(found, metrics=metrics))
    Page(page)
    assert page.count("<small>no item at all</small>") == 1


def test_a_run_without_win_rates_has_no_word_of_them(text: str) -> None:
    body = text.partition("<body>")[2]
    assert "in rate" not in body
    assert "Answers side by side" not in body


def test_a_run_folder_without_a_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report.write(tmp_path, tmp_path)


def test_quantiles_are_linear_between_neighbours() -> None:
    assert quantiles([0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx((0.2, 1.0, 2.0, 3.0, 3.8))
    assert quantiles([7.0]) == (7.0,) * 5
