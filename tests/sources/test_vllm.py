"""The part `vllm`: the endpoint's rows, from a server that it starts, mends and ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fusechat.digests import digest
from fusechat.errors import PartError
from fusechat.parts import Where, load_part
from fusechat.records import Prompt, Request
from fusechat.sources.endpoint import Endpoint
from fusechat.sources.vllm import Vllm

STAND_IN = Path(__file__).resolve().parent.parent / "vllm_stand_in.py"
COMMAND = (sys.executable, "-S", str(STAND_IN))


def requests(part: Any, prompts: int, samples: int) -> list[Request]:
    rows = []
    for number in range(prompts):
        prompt = Prompt.of(f"q{number}", domain="d")
        for index in range(samples):
            seed = part.row_seed(7, prompt, index)
            draft = Request(prompt=prompt, source="s", index=index, seed=seed,
                            model=part.served_model(), made_from="")  # fmt: skip
            made_from = digest([part.digest(), part.sees(draft)])
            rows.append(draft.model_copy(update={"made_from": made_from}))
    return rows


def sample(part: Vllm, rows: list[Request]) -> list[Any]:
    with part.open(Where(command=COMMAND)) as work:
        return list(work(iter(rows)))


@pytest.mark.parametrize("how", [{}, {"die_after": 3}])
def test_every_row_is_answered_once_with_its_seed_though_the_server_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    """The stand-in answers `PROMPT SEED+i` for choice i, so that a seed used twice would show."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("STAND_IN", json.dumps({"state": str(tmp_path), **how}))
    part = Vllm(model="org/model", backoff=0.05, give_up_after=5.0, concurrency=2)
    rows = requests(part, prompts=5, samples=3)
    found = sample(part, rows)
    assert [r.error for r in found if r.error] == []
    wanted = {row.made_from: (row.prompt.messages[0].content.upper(), row.seed) for row in rows}
    assert {r.made_from for r in found} == set(wanted)
    assert len(found) == len(rows)
    for response in found:
        text, base = response.text.split()
        seed, _, choice = base.partition("+")
        assert (text, int(seed) + int(choice)) == wanted[response.made_from]
        assert response.model == "org/model"
    starts = [line.split()[0] for line in (tmp_path / "diary").read_text().splitlines()]
    assert starts == (["start", "start", "stop"] if how else ["start", "stop"])


def test_a_server_that_cannot_start_stops_the_unit_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("STAND_IN", json.dumps({"state": str(tmp_path), "crash": "gated repo"}))
    with pytest.raises(PartError, match=r"(?s)status 3.*gated repo.*set HF_TOKEN"):
        sample(Vllm(model="org/model"), [])


def test_sampling_settings_are_those_of_the_endpoint_and_the_key_is_of_its_own() -> None:
    both = {"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 7, "seeds": [13, 21]}
    mine, theirs = Vllm(model="m/m", **both), Endpoint(model="m/m", **both)
    assert mine.key()["settings"] == theirs.key()["settings"]
    assert mine.key()["use"] == "vllm"
    assert mine.digest() != theirs.digest()
    longer = mine.model_copy(update={"seeds": (13, 21, 42)})
    assert longer.digest() == mine.digest()
    bounded = Vllm(model="m/m", max_model_len=4096, **both)
    assert bounded.digest() != mine.digest()


def test_what_is_wrong_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    wrong = {
        "use": "vllm", "model": "folder", "base_urls": ["http://here/v1"],
        "command": ["/nowhere/vllm"], "engine": {"dtype": "half"}, "options": {"port": 1},
    }  # fmt: skip
    told = list(load_part("sources", wrong, tmp_path).faults())
    assert {name for name, _ in told} == {"model", "base_urls", "command", "engine", "options"}
    assert any("no config.json" in message for _, message in told)
    assert list(Vllm(model="org/model").faults()) == []
