"""What answers took: summed over a model's sampling units, and nothing that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusechat import files, tables
from fusechat.records import Response
from fusechat.settings import Price
from fusechat.stages.benchmark_costs import benchmark_costs


def unit(
    folder: Path, name: str, tokens: list[int | None], seconds: float, adopted: int = 0
) -> tuple[str, Path]:
    path = folder / name
    rows = [
        Response(
            id=f"{name}{at}", prompt_id="p", source="s", index=at, text="x", finish="stop",
            tokens=count, prompt_tokens=100, model="m", made_from=f"{name}{at}",
        )
        for at, count in enumerate(tokens)
    ]  # fmt: skip
    tables.write_table(path / "data", rows, Response)
    counts = {"responses": len(rows), "adopted": adopted}
    files.write_json(path / "manifest.json", {"seconds": seconds, "counts": counts})
    return name, path


def test_units_of_a_model_add_up_and_its_judge_stands_apart(tmp_path: Path) -> None:
    units = [
        unit(tmp_path, "evaluate/mt/base/sample@0", [10, 20], 2.0),
        unit(tmp_path, "evaluate/mt/base/sample@0.7", [30], 4.0),
        unit(tmp_path, "evaluate/mt/base/turn_2/sample@0", [40], 4.0),
        unit(tmp_path, "evaluate/mt/base/judge/sample", [5, 5], 1.0),
        unit(tmp_path, "evaluate/mt/base/judge/again/sample", [10], 1.0),
        unit(tmp_path, "evaluate/mt/fused/sample@0", [50], 1.0, adopted=1),
        unit(tmp_path, "sample/other", [1], 1.0),
        ("evaluate/mt/late/sample", tmp_path / "not-done"),
    ]
    prices = {name: Price(prompt=10.0, response=1000.0) for name, _ in units}
    found = benchmark_costs(units, prices)
    assert list(found) == ["mt"]
    assert list(found["mt"]) == ["base", "fused"]
    base = found["mt"]["base"]
    assert (base["seconds"], base["tokens"], base["responses"]) == (10.0, 100, 4)
    assert base["tokens_per_second"] == 10.0
    # 4 prompts of 100 tokens at 10 a million, and 100 tokens at 1,000 a million.
    assert base["cost"] == pytest.approx((4 * 100 * 10 + 100 * 1000) / 1e6)
    assert (base["judge_tokens"], base["judge_tokens_per_second"]) == (20, 10.0)
    assert found["mt"]["fused"]["tokens_per_second"] is None, "its rows were taken over"


def test_without_a_price_or_told_tokens_there_is_no_cost(tmp_path: Path) -> None:
    told = unit(tmp_path, "evaluate/a/base/sample", [10], 1.0)
    untold = unit(tmp_path, "evaluate/b/base/sample", [10, None], 1.0)
    assert benchmark_costs([told])["a"]["base"]["cost"] is None
    price = {untold[0]: Price(prompt=1.0, response=1.0)}
    assert benchmark_costs([untold], price)["b"]["base"]["cost"] is None
    assert "judge_seconds" not in benchmark_costs([told])["a"]["base"]
