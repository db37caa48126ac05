"""The build at scale: SFT and DPO sets from a scored pool, against a pandas script.

    pip install pandas
    python benchmarks/build_pairs.py [--prompts 160000] [--rounds 3] [--folder DIR]

A pool of 4 sources with 5 responses of about 1 kB each is made with our own table writers (not
timed): nine prompts of ten are chat, scored by a reward model, one of ten is mathematics with
verdicts as well; some responses are cut, failed, identical or could not be judged. Every
measured thing runs in a process of its own, whose CPU seconds (imports included) and greatest
memory are those that the kernel reports. The pool is made at full size and at a tenth, below
DIR or the temporary folder (3 bytes of disk for 4 of text), and removed.

The pandas script is run at a tenth and must find the same rows, or no number is printed. It
writes ids, texts and scores, but no messages, no dropped prompts and no reasons.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SOURCES = ("gemma", "mistral", "qwen", "llama")
SAMPLES = 5
WINDOW = {"min_margin": 0.01, "max_margin": 0.1}
RULES = {
    "chat": {
        "split": {"rule": "filter_then_share"},
        "sft": {"use": "best_of", "by": "rm"},
        "dpo": {"use": "same_source_margin", "by": "rm", **WINDOW},
    },
    "math": {
        "split": {"rule": "pair_else_sft"},
        "sft": {"use": "best_of", "by": "rm", "correct_by": "math"},
        "dpo": {"use": "correct_over_incorrect", "by": "rm", "correct_by": "math", **WINDOW},
    },
}
BLOCK = 1000
"""Prompts made at a time."""
INDEX = "index, once, by sample and annotate"


def inputs_of(folder: Path) -> dict[str, Path]:
    """The units of a pool, as a build takes them."""
    samples = {f"sample/{source}": folder / f"sample-{source}" for source in SOURCES}
    scores = {f"annotate/{name}": folder / f"annotate-{name}" for name in ("rm", "math")}
    return {"prompts": folder / "prompts", **samples, **scores}


def make_pool(folder: Path, prompts: int, seed: int = 0) -> None:
    """Write the tables of a scored pool, block by block."""
    from fusechat.records import Prompt, Response, Score
    from fusechat.tables import TableWriter, arrow_schema

    draw = np.random.default_rng(seed)
    inputs = inputs_of(folder)
    writers = {
        "prompts": TableWriter(inputs["prompts"] / "prompts", arrow_schema(Prompt)),
    }
    for name, path in inputs.items():
        if name != "prompts":
            row_type = Response if name.startswith("sample/") else Score
            writers[name] = TableWriter(path / "data", arrow_schema(row_type))
    prose = _prose(draw)
    for first in range(0, prompts, BLOCK):
        _make_block(writers, draw, prose, min(BLOCK, prompts - first))
    for writer in writers.values():
        writer.close()


def _prose(draw: Any) -> str:
    letters = np.array(list("eeeettaaooiinnsshhrrddllucmwfgypbvk"))
    words = ["".join(draw.choice(letters, size)) for size in draw.integers(1, 10, 20_000)]
    # Few words are common and most are rare, as in real text.
    ranks = np.minimum(draw.zipf(1.3, 1_500_000), len(words)) - 1
    return " ".join(words[rank] for rank in ranks)


def _ids(draw: Any, count: int) -> list[str]:
    return [f"{number:016x}" for number in draw.integers(0, 1 << 63, count).tolist()]


def _texts(draw: Any, prose: str, count: int, mean: int) -> list[str]:
    starts = draw.integers(0, len(prose) - 20 * mean, count).tolist()
    lengths = np.clip(draw.lognormal(np.log(mean), 0.4, count), 20, 8 * mean).astype(int).tolist()
    return [
        f"{start:x} {prose[start : start + length]}"
        for start, length in zip(starts, lengths, strict=True)
    ]


def _make_block(writers: Mapping[str, Any], draw: Any, prose: str, count: int) -> None:
    ids = _ids(draw, count)
    math = draw.random(count) < 0.1
    questions = [[{"role": "user", "content": text}] for text in _texts(draw, prose, count, 200)]
    empty = ("answer", "tests", "reference", "choices", "checker", "turns")
    table = {
        "id": ids,
        "messages": questions,
        "domain": np.where(math, "math", "chat"),
        "origin": np.where(math, "problems", draw.choice(["talk", "help"], count)),
        "licence": [""] * count,
        **{name: pa.nulls(count) for name in empty},
    }
    writers["prompts"].add(pa.table(table))
    # Of some prompts all responses score alike, of others far apart: those pass no window.
    level, spread = draw.normal(0.12, 0.03, count), draw.lognormal(np.log(0.015), 1.2, count)
    made = [
        _respond(writers[f"sample/{source}"], draw, prose, ids, (source, (level, spread)))
        for source in SOURCES
    ]
    # Scores stand prompt by prompt, as the annotate stage writes them.
    order = np.argsort(np.tile(np.repeat(np.arange(count), SAMPLES), len(SOURCES)), kind="stable")
    columns = {name: np.concatenate([one[name] for one in made])[order] for name in made[0]}
    _judge(writers["annotate/rm"], "rm", draw, columns, columns["score"])
    of_math = np.isin(columns["prompt_id"], np.array(ids, object)[math])
    problems = {name: values[of_math] for name, values in columns.items()}
    right = (draw.random(len(problems["score"])) < 0.6).astype(float)
    _judge(writers["annotate/math"], "math", draw, problems, right)


def _respond(
    writer: Any, draw: Any, prose: str, prompts: list[str], source: tuple[str, Any]
) -> dict[str, Any]:
    name, scores = source
    count = len(prompts) * SAMPLES
    owner = np.repeat(np.array(prompts, object), SAMPLES)
    texts = _texts(draw, prose, count, 1000)
    for row in np.flatnonzero(draw.random(count) < 0.01):  # the same text twice in a row
        texts[row] = texts[row - row % SAMPLES]
    finish = draw.choice(["stop", "length", "error"], count, p=[0.96, 0.035, 0.005])
    failed = finish == "error"
    ids = np.array(_ids(draw, count), object)
    columns = {
        "id": ids,
        "prompt_id": owner,
        "source": [name] * count,
        "index": np.tile(np.arange(SAMPLES), len(prompts)),
        "text": ["" if bad else text for bad, text in zip(failed, texts, strict=True)],
        "finish": finish,
        "error": pa.array(["the server went away"] * count, mask=~failed),
        "tokens": [len(text) // 4 for text in texts],
        "seed": draw.integers(0, 1 << 62, count),
        "model": [f"{name}-it"] * count,
        "made_from": _ids(draw, count),
        **{name: pa.nulls(count) for name in ("reasoning", "logprob", "prompt_tokens", "details")},
    }
    writer.add(pa.table(columns))
    level, spread = (np.repeat(one, SAMPLES) for one in scores)
    of_source = np.repeat(draw.normal(0, 0.01, len(prompts)), SAMPLES)
    score = level + of_source + spread * draw.normal(0, 1, count)
    return {"prompt_id": owner, "id": ids, "whole": finish == "stop", "score": score}


def _judge(writer: Any, name: str, draw: Any, of: Mapping[str, Any], value: Any) -> None:
    count = len(value)
    good = of["whole"] & (draw.random(count) > 0.005)
    columns = {
        "response_id": of["id"],
        "annotator": [name] * count,
        "status": np.where(good, "ok", "unscorable"),
        "value": pa.array(value, mask=~good),
        "reason": np.where(good, "", "nothing to judge"),
        "made_from": _ids(draw, count),
        **{column: pa.nulls(count) for column in ("details", "against")},
    }
    writer.add(pa.table(columns))


def run_index(folder: Path, _: Path) -> None:
    """The side tables that the sample and annotate stages write when they finish."""
    from fusechat.stages.slim import write_index

    for name, unit in inputs_of(folder).items():
        if name != "prompts":
            write_index(unit)


def run_build(folder: Path, out: Path) -> None:
    """The build stage."""
    from fusechat.parts import Where
    from fusechat.progress import quiet
    from fusechat.stages.build import build
    from fusechat.stages.build_settings import BuildSettings
    from fusechat.stages.context import UnitContext

    counts = build(
        UnitContext(
            name="build", folder=out, inputs=inputs_of(folder),
            settings=BuildSettings.model_validate(RULES), seed=0, where=Where(),
            progress=quiet(), log=logging.getLogger("build"),
        )
    )  # fmt: skip
    (out / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def run_pandas(folder: Path, out: Path) -> None:
    """What a practised user of pandas would write."""
    import pandas as pd

    out.mkdir(parents=True, exist_ok=True)

    def read(unit: str, table: str, columns: list[str]) -> Any:
        return pq.read_table(inputs_of(folder)[unit] / table, columns=columns).to_pandas()

    prompts = read("prompts", "prompts", ["id", "domain", "origin"])
    order = pd.Series(np.arange(len(prompts)), index=prompts["id"])
    columns = ["id", "prompt_id", "index", "finish", "text"]
    parts = [
        read(f"sample/{source}", "data", columns).assign(source=place)
        for place, source in enumerate(SOURCES)
    ]
    pool = pd.concat(parts, ignore_index=True)
    pool = pool[pool["finish"].isin(["stop", "unknown"]) & (pool["text"].str.strip() != "")]
    for name in ("rm", "math"):
        scores = read(f"annotate/{name}", "data", ["response_id", "status", "value"])
        scores = scores[scores["status"] == "ok"].set_index("response_id")["value"]
        pool[name] = pool["id"].map(scores)
    pool["order"] = pool["prompt_id"].map(order)
    pool = pool[pool["rm"].notna()].sort_values(["order", "source", "index"], ignore_index=True)
    domain = pool["prompt_id"].map(prompts.set_index("id")["domain"])
    chat, math = pool[domain == "chat"], pool[(domain == "math") & pool["math"].notna()]
    right, wrong = math[math["math"] >= 1], math[math["math"] < 1]
    pairs = {"chat": _pandas_pairs(pool, chat, chat), "math": _pandas_pairs(pool, right, wrong)}
    best = {"chat": _pandas_best(pool, chat), "math": _pandas_best(pool, right)}
    to_sft = _pandas_split(pairs["chat"]["prompt_id"], prompts)
    in_sft = best["chat"]["prompt_id"].isin(to_sft)
    in_dpo = ~pairs["chat"]["prompt_id"].isin(to_sft)
    unpaired = ~best["math"]["prompt_id"].isin(pairs["math"]["prompt_id"])
    sft = pd.concat([best["chat"][in_sft], best["math"][unpaired]]).sort_values("order")
    dpo = pd.concat([pairs["chat"][in_dpo], pairs["math"]]).sort_values("order")
    sft.to_parquet(out / "sft.parquet", compression="zstd")
    dpo.to_parquet(out / "dpo.parquet", compression="zstd")


def _pandas_best(pool: Any, rows: Any) -> Any:
    best = pool.loc[rows.groupby("prompt_id", sort=False)["rm"].idxmax()]
    return best[["prompt_id", "order", "id", "text", "rm"]]


def _pandas_pairs(pool: Any, positives: Any, negatives: Any) -> Any:
    import pandas as pd

    keys = ["prompt_id", "source"]
    top = positives.groupby(keys, sort=False)["rm"].idxmax().rename("chosen")
    low = negatives.groupby(keys, sort=False)["rm"].idxmin().rename("rejected")
    found = pd.concat([top, low], axis=1, join="inner").reset_index()
    for side in ("chosen", "rejected"):
        for column in ("id", "text", "rm"):
            found[f"{side}_{column}"] = pool[column].to_numpy()[found[side]]
    found["order"] = pool["order"].to_numpy()[found["chosen"]]
    gap = (found["chosen_rm"] - found["rejected_rm"]).astype(np.float32).astype(float)
    low_end, high_end = (float(np.float32(end)) for end in WINDOW.values())
    inside = (gap >= low_end - 1e-9) & (gap <= high_end + 1e-9)
    found = found[inside & (found["chosen_text"] != found["rejected_text"])]
    by_rank = found.sort_values(["order", "chosen_rm", "source"], ascending=[True, False, True])
    return by_rank.drop_duplicates("prompt_id")


def _pandas_split(ids: Any, prompts: Any) -> Any:
    """Ids of the paired chat prompts that go to SFT: our draw, so that the rows can be compared."""
    from fusechat.digests import digest

    drawn = prompts[prompts["id"].isin(ids)].copy()
    drawn["draw"] = drawn["id"].map(lambda one: digest([42, one]))
    drawn = drawn.sort_values(["origin", "draw", "id"])
    place = drawn.groupby("origin").cumcount()
    size = drawn.groupby("origin")["id"].transform("size")
    return drawn.loc[place < size * 4 // 10, "id"]


def run_pool(folder: Path, prompts: Path) -> None:
    """Make the pool: apart, because a child's greatest memory begins with its parent's."""
    make_pool(folder, int(prompts.name))


def run_compare(ours: Path, theirs: Path) -> None:
    """End with an error where the rows of the two differ."""
    if found := list(differences(ours, theirs)):
        raise SystemExit("\n".join(["The rows differ, so there are no numbers:", *found]))


CHILDREN = {"index": run_index, "build": run_build, "pandas": run_pandas}
CHILDREN |= {"pool": run_pool, "compare": run_compare}


def measured(what: str, folder: Path, out: Path) -> dict[str, float]:
    """CPU and wall seconds and greatest memory (MB) of one child process."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--child", what, str(folder), str(out)]
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{what} failed with status {status}")
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - begun,
        "mb": usage.ru_maxrss / scale,
    }


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """Where the rows of the two differ."""
    columns = {
        "sft": (["prompt_id", "response_id", "response"], ["prompt_id", "id", "text"]),
        "dpo": (
            ["prompt_id", "chosen_id", "rejected_id", "chosen", "rejected"],
            ["prompt_id", "chosen_id", "rejected_id", "chosen_text", "rejected_text"],
        ),
    }
    for table, (own, other) in columns.items():
        mine = pq.read_table(ours / table, columns=own).select(own).to_pydict()
        peer = pq.read_table(theirs / f"{table}.parquet", columns=other).select(other).to_pydict()
        if list(mine.values()) != list(peer.values()):
            yield f"{table}: {len(mine['prompt_id'])} and {len(peer['prompt_id'])} rows differ"


def main(options: argparse.Namespace) -> int:
    """Make the pools, measure, compare, print."""
    rows: list[tuple[str, int, list[dict[str, float]]]] = []
    tenth = max(1, options.prompts // 10)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="build-pairs-") as name:
        root = Path(name)
        small, large = root / "tenth", root / "full"
        measured("pool", small, Path(str(tenth)))
        indexed = [measured("index", small, root)]
        ours, theirs = [], []
        for number in range(options.rounds):
            ours.append(measured("build", small, root / f"ours-{number}"))
            theirs.append(measured("pandas", small, root / "theirs"))
        measured("compare", root / "ours-0", root / "theirs")
        rows += [("build", tenth, ours), ("pandas script", tenth, theirs)]
        rows += [(INDEX, tenth, indexed)]
        measured("pool", large, Path(str(options.prompts)))
        indexed = [measured("index", large, root)]
        full = [measured("build", large, root / f"full-{n}") for n in range(options.rounds)]
        rows += [("build", options.prompts, full), (INDEX, options.prompts, indexed)]
        counts = json.loads((root / "full-0" / "counts.json").read_text(encoding="utf-8"))
    _print(rows, counts, options)
    return 0


def _print(rows: list[Any], counts: Mapping[str, Any], options: argparse.Namespace) -> None:
    import pandas as pd

    print(f"Command: python benchmarks/build_pairs.py --prompts {options.prompts} "
          f"--rounds {options.rounds}\nMachine: {os.cpu_count()} cores, {platform.machine()}, "
          f"{platform.system()}; python {platform.python_version()}, pyarrow {pa.__version__}, "
          f"numpy {np.__version__}, pandas {pd.__version__}")  # fmt: skip
    print(f"At full size: {counts['sft']} SFT, {counts['dpo']} DPO, {counts['dropped']} dropped.")
    print("Medians over the rounds (least to most). The rows of both are the same.\n")
    print("| what | prompts | responses | CPU s | wall s | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for what, prompts, found in rows:
        cells = [_cell([one[key] for one in found]) for key in ("cpu", "wall", "mb")]
        responses = prompts * len(SOURCES) * SAMPLES
        print(f"| {what} | {prompts:,} | {responses:,} | {' | '.join(cells)} |")
    ours, theirs, _, full, (index,) = (found for _, _, found in rows)
    ratio = [b["cpu"] / a["cpu"] for a, b in zip(ours, theirs, strict=True)]
    growth = [a["mb"] / b["mb"] for a, b in zip(full, ours, strict=True)]
    both = [one["cpu"] + index["cpu"] for one in full]
    print(f"\npandas needs {_cell(ratio)} times the CPU at a tenth; memory at full size is "
          f"{_cell(growth)} times that at a tenth. With its index the build at full size takes "
          f"{_cell(both)} CPU seconds. Load of the machine at the end: {os.getloadavg()[1]:.1f} "
          "(5 minutes).")  # fmt: skip


def _cell(values: list[float]) -> str:
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4]))
        sys.exit(0)
    parser = argparse.ArgumentParser(description="the build at scale, against pandas")
    parser.add_argument("--prompts", type=int, default=160_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where the pools are made")
    sys.exit(main(parser.parse_args()))
