"""recipes/mini-endpoint.yaml: the small fusion with two of its four sources behind servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.files import read_json
from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.records import Response
from fusechat.tables import read_table

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "mini-endpoint.yaml"
SERVED = {"gemma": 8101, "qwen": 8102}
SAMPLING = ("samples", "temperature", "top_p", "repetition_penalty", "max_new_tokens")


def tree(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_it_is_the_mini_recipe_but_for_two_sources() -> None:
    ours, mini = tree(RECIPE), tree(RECIPE.with_name("mini.yaml"))
    for name, port in SERVED.items():
        entry, other = ours["sources"].pop(name), mini["sources"].pop(name)
        assert (entry["use"], other["use"]) == ("endpoint", "hf")
        assert entry["base_urls"] == [f"http://127.0.0.1:{port}/v1"]
        assert {key: entry.get(key) for key in SAMPLING} == {
            key: other.get(key) for key in SAMPLING
        }
    assert ours.pop("name") == "mini-endpoint"
    assert mini.pop("name") == "mini"
    assert ours == mini


def test_it_has_no_faults_and_shares_what_is_not_behind_a_server(tmp_path: Path) -> None:
    ours = plan(load_recipe(RECIPE), tmp_path)
    mini = plan(load_recipe(RECIPE.with_name("mini.yaml")), tmp_path)
    for name in ("prompts", "sample/mistral", "sample/llama"):
        assert ours[name].key == mini[name].key
    assert ours["sample/gemma"].key != mini["sample/gemma"].key


def free_ports(count: int) -> list[int]:
    places = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [place.getsockname()[1] for place in places]
    for place in places:
        place.close()
    return ports


SMALL = [f"prompts.{name}.take=3" for name in ("math", "code", "chat", "advice", "zh")]


@pytest.mark.timeout(300)
def test_a_small_run_samples_two_sources_over_http_and_builds_from_all_four(
    tmp_path: Path,
) -> None:
    ports = dict(zip(SERVED, free_ports(2), strict=True))
    servers = [f"{name}={ROOT / 'zoo' / name}@{port}" for name, port in ports.items()]
    units = {
        f"sample/{name}": {"base_urls": [f"http://127.0.0.1:{port}/v1"]}
        for name, port in ports.items()
    }
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(
        yaml.safe_dump({"default": {"processes": 1, "device": "cpu"}, "units": units})
    )
    words = ["run", str(RECIPE), "--only", "build", "--cluster", str(cluster)]
    sets = [word for change in SMALL for word in ("--set", change)]
    run = [sys.executable, "-m", "fusechat", *words, *sets, "--workspace", str(tmp_path / "ws")]
    exact = ["--dtype", "float32", "--device", "cpu"]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "fusechat.serving", *servers, *exact, "--", *run],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, domains in {"gemma": 4, "qwen": 4, "mistral": 4, "llama": 4}.items():
        (unit,) = (tmp_path / "ws").glob(f"sample/{name}-*")
        rows = list(read_table(unit / "data", Response))
        asked = 3 * 5 * domains + (3 if name == "qwen" else 0)
        assert len(rows) == asked
        assert all(row.finish in ("stop", "length") for row in rows)
        assert len({(row.prompt_id, row.seed) for row in rows}) == asked
        assert all(row.text == row.text.strip() for row in rows)
    (build,) = (tmp_path / "ws").glob("build-*")
    counts = read_json(build / "manifest.json")["counts"]
    assert counts["sft"] > 0
