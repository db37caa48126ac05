"""The page in a real browser: what no reading of its text can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.analysed import Maker

from browser_page import chromium, numbers_on, open_everything, printed
from fusechat import files, report
from fusechat.report.collect import collect
from fusechat.report.render import render

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(whole: tuple[Path, Path]) -> Path:
    return report.write(*whole)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_console_error_no_request_and_no_sideways_scroll(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    found = open_everything(browser, page_file, width, scheme)
    assert found["width"] <= width
    assert found["said"] == []
    assert found["asked"] == [page_file.as_uri()]


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_twenty_sources_with_long_names_still_fit(
    browser: Any, whole: tuple[Path, Path], tmp_path: Path, width: int
) -> None:
    names = [f"source-{number:02d}-instruct-{'x' * (3 * number)}" for number in range(20)]
    found = collect(*whole)
    analysis = Maker(names).analysis({"math": 40, "zh": 10, "a-domain-with-a-long-name": 20})
    file = tmp_path / "many.html"
    sources = dict.fromkeys(names, "")
    file.write_text(render(replace(found, analysis=analysis, sources=sources)))
    page = open_everything(browser, file, width, "light")
    assert page["width"] <= width
    assert page["said"] == []


def test_a_pair_unfolds_at_a_click(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(page_file.as_uri())
    page.locator("details.pair:not([open]) > summary").first.click()
    assert page.locator("details.pair[open]").count() == 2
    assert "fusechat report" in page.title()
    page.close()


def test_the_tables_numbers_are_those_of_metrics_json(
    browser: Any, page_file: Path, whole: tuple[Path, Path]
) -> None:
    (folder,) = (whole[1] / "evaluate").glob("compare-*")
    metrics = files.read_json(folder / "metrics.json")
    seen = set()
    for task, model, against, field, text in numbers_on(browser, page_file):
        assert text == printed(metrics, task, model, against, field), (task, model, against, field)
        seen.add((task, model, against, field))
    shown = ["target", "train.sft", "train.dpo", "gemma", "mistral", "qwen", "llama"]
    for task in [*metrics["tasks"], "average"]:
        for field in ("accuracy", "low", "high"):
            assert {(task, model, None, field) for model in shown} <= seen
        fused = (task, "train.dpo", "target")
        assert {(*fused, name) for name in ("difference", "low", "high", "n")} <= seen


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_with_a_win_rate_fits_and_asks_for_nothing(
    browser: Any, graded: tuple[Path, Path], width: int
) -> None:
    found = open_everything(browser, graded[0], width)
    assert found["width"] <= width
    assert found["said"] == []
    assert found["asked"] == [graded[0].as_uri()]


def test_a_win_rates_numbers_are_those_of_metrics_json(
    browser: Any, graded: tuple[Path, Path]
) -> None:
    metrics = files.read_json(next(graded[1].glob("evaluate/compare-*/metrics.json")))
    fields = set()
    for task, model, against, field, text in numbers_on(browser, graded[0]):
        assert text == printed(metrics, task, model, against, field), (task, model, against, field)
        fields.add(field)
    assert {"length_controlled.value", "length_controlled.high", "mean_score"} <= fields


def test_text_stands_out_from_its_ground_in_light_and_dark(browser: Any, page_file: Path) -> None:
    """WCAG AA: 4.5 to 1 between text and the nearest painted ground behind it."""
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page.goto(page_file.as_uri())
        assert page.evaluate(CONTRAST) == []
        page.close()


CONTRAST = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("svg")) continue;
    const pair = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const words = element.textContent.trim().slice(0, 30);
    if (ratio < 4.5) weak.push(`${element.className} ${words} ${ratio.toFixed(2)}`);
  }
  return [...new Set(weak)];
}"""
