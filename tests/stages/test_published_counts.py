"""FuseChat-3.0's chat sets, from raw pools in which as many prompts have a pair as it kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fusechat.records import Prompt, Response, Score
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.decisions import Collector, Decisions, decide_all
from fusechat.stages.groups import PromptTable
from fusechat.stages.slim import write_index
from fusechat.tables import arrow_schema, write_tables

# Raw prompts, prompts with a valid pair, and the published SFT and DPO rows of each set.
SETS = {
    "UltraFeedback": (63_967, 51_098, 20_439, 30_659),
    "Magpie-Pro-DPO": (100_000, 20_374, 8_149, 12_225),
    "HelpSteer2": (10_162, 9_435, 3_774, 5_661),
}
RULES = {
    "chat": {
        "split": {"rule": "filter_then_share"},
        "sft": {"use": "best_of", "by": "rm"},
        "dpo": {"use": "same_source_margin", "by": "rm", "min_margin": 0.01, "max_margin": 0.1},
    }
}
# (chosen score, text of the rejected response, finish of the rejected one) beside 0.1, "a", stop.
VALID = [(0.11, "b", "stop"), (0.15, "b", "stop"), (0.2, "b", "unknown")]
INVALID = [
    (0.105, "b", "stop", "gap below min_margin"),
    (0.25, "b", "stop", "gap above max_margin"),
    (0.15, "a", "stop", "identical texts"),
    (0.15, "b", "length", "only one scored response"),
]


def raw_pool(folder: Path) -> dict[str, Path]:
    """Two responses of one source to each prompt; which prompts have a pair is drawn."""
    draw = np.random.default_rng(0)
    valid, origin = [], []
    for name, (raw, kept, _, _) in SETS.items():
        valid.append(draw.permutation(raw) < kept)
        origin += [name] * raw
    has_pair = np.concatenate(valid)
    count = len(has_pair)
    kind = np.where(has_pair, draw.integers(0, 3, count), draw.integers(3, 7, count))
    cases = [*VALID, *((score, text, finish) for score, text, finish, _ in INVALID)]
    score, text, finish = (np.array(column)[kind] for column in zip(*cases, strict=True))
    ids = [f"{number:016x}" for number in draw.permutation(count).tolist()]
    inputs = {name: folder / name for name in ("prompts", "sample/one", "annotate/rm")}
    write(inputs["prompts"] / "prompts", Prompt, {
        "id": ids, "messages": [[{"role": "user", "content": "?"}]] * count,
        "domain": ["chat"] * count, "origin": origin, "licence": [""] * count,
    })  # fmt: skip
    both = [name for one in ids for name in (f"{one}+", f"{one}-")]
    write(inputs["sample/one"] / "data", Response, {
        "id": both, "prompt_id": np.repeat(ids, 2), "index": np.tile([0, 1], count),
        "text": np.stack([np.full(count, "a"), text], 1).ravel(),
        "finish": np.stack([np.full(count, "stop"), finish], 1).ravel(),
        **{name: ["one"] * (2 * count) for name in ("source", "model", "made_from")},
    })  # fmt: skip
    write(inputs["annotate/rm"] / "data", Score, {
        "response_id": both, "value": np.stack([score, np.full(count, 0.1)], 1).ravel(),
        "status": ["ok"] * (2 * count), "reason": [""] * (2 * count),
        **{name: ["rm"] * (2 * count) for name in ("annotator", "made_from")},
    })  # fmt: skip
    for name in ("sample/one", "annotate/rm"):
        write_index(inputs[name])
    return inputs


def write(folder: Path, row_type: type, columns: dict[str, object]) -> None:
    schema = arrow_schema(row_type)
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    missing = {name: pa.nulls(count) for name in schema.names if name not in columns}
    write_tables(folder, [pa.table(columns | missing)], schema, 50_000)


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Decisions:
    inputs = raw_pool(tmp_path_factory.mktemp("raw"))
    settings = BuildSettings.model_validate(RULES)
    collector = Collector(PromptTable.read(inputs["prompts"]), ("one",))
    for picked in decide_all(inputs, settings):
        collector.add(picked)
    return collector.placed(settings)


@pytest.mark.parametrize("name", list(SETS))
def test_a_raw_pool_gives_the_published_rows_of_each_set(decisions: Decisions, name: str) -> None:
    raw, kept, sft, dpo = SETS[name]
    prompts = decisions.prompts
    members = prompts.origin == prompts.origins.index(name)
    assert members.sum() == raw
    assert decisions.gives("dpo")[members].sum() == kept
    for table, rows in (("sft", sft), ("dpo", dpo)):
        placed = decisions.picks[table].prompt[decisions.rows(table)]
        assert members[placed].sum() == rows
        assert len(np.unique(placed)) == len(placed)  # one row of a prompt at most


def test_every_other_prompt_is_dropped_with_its_reason(decisions: Decisions) -> None:
    gone = decisions.dropped()
    assert len(gone) == sum(raw - kept for raw, kept, _, _ in SETS.values())
    reasons = {decisions.drop_reason(int(at)) for at in gone}
    assert reasons == {("dpo", reason) for *_, reason in INVALID}
    assert not (decisions.placed.sft & decisions.placed.dpo).any()
