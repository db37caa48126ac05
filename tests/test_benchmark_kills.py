"""An evaluation with turns and a judge, killed again and again, ends as one that never was."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import yaml

from running import finish, results

MODELS = {
    "base": {"use": "judged_parts:Speaker", "text": "a a"},
    "fused": {"use": "judged_parts:Speaker", "text": "a a a"},
}
EVALUATE = {
    "models": MODELS,
    "benchmarks": [
        {"use": "judged_parts:Talk", "name": "talk"},
        {"use": "judged_parts:Sums", "name": "sums"},
    ],
    "judge": {"use": "judged_parts:Referee", "dumb": ["Second"]},
}


def test_an_evaluation_killed_at_6_moments_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    recipe = tmp_path / "bench.yaml"
    recipe.write_text(yaml.safe_dump({"name": "bench", "evaluate": EVALUATE}))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    code, out = finish(recipe, unbroken, FUSECHAT_FAULT_LOG=str(tmp_path / "places"))
    assert code == 0, out
    places = (tmp_path / "places").read_text().split()
    draw, hit = random.Random(7), 0
    for _ in range(6):
        moment = draw.randint(10, 10 + len(places) // 5)
        code, out = finish(recipe, broken, FUSECHAT_KILL_AT=f"*:{moment}")
        assert code in (0, -signal.SIGKILL), out
        hit += code == -signal.SIGKILL
    assert hit >= 4
    code, out = finish(recipe, broken)
    assert code == 0, out
    assert any(name.endswith("benchmarks.json") for name in results(unbroken))
    assert results(broken) == results(unbroken)
