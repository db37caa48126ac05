"""Builds a workspace as a finished run would leave it, from seeded made-up rows."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.report.analysed import Maker

from fusechat import files, tables
from fusechat.digests import digest
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import (
    Candidate,
    Demonstration,
    Dropped,
    Finish,
    Pair,
    Prompt,
    Record,
    Request,
    Response,
    Score,
)
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate import compare
from fusechat.stages.evaluate_settings import WinRate

SOURCES = {"gemma": "chat", "mistral": "code", "qwen": "zh", "llama": "math"}
DOMAINS = {"math": 90, "code": 70, "chat": 80, "zh": 40}
ATTACK = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
LIBRARIES = {"python": "3.11.7", "numpy": "2.4.6", "pyarrow": "21.0.0", "torch": "2.13.0"}
RECIPE = """# Four experts of one thing each, fused into a smaller target. No GPU, a few minutes.
name: mini
seed: 42
target: {model: zoo/target}
prompts:
  mini_math: {domain: math, take: 90}
  mini_code: {domain: code, take: 70}
sources:
  gemma:   {use: hf, model: zoo/gemma, samples: {math: 4, code: 4, chat: 4, zh: 4}}
  mistral: {use: hf, model: zoo/mistral, samples: {math: 4, code: 4, chat: 4, zh: 4}}
  qwen:    {use: hf, model: zoo/qwen, samples: {math: 4, code: 4, chat: 4, zh: 4}}
  llama:   {use: hf, model: zoo/llama, samples: {math: 4, code: 4, chat: 4, zh: 4}}
build:
  math: {dpo: {use: correct_over_incorrect, by: reward, correct_by: math, min_margin: 0.01}}
"""
SKILL = {
    "target": (0.28, 0.40, 0.22),
    "train.sft": (0.55, 0.71, 0.31),
    "train.dpo": (0.74, 0.70, 0.20),
    "gemma": (0.12, 0.38, 0.55),
    "mistral": (0.14, 0.74, 0.16),
    "qwen": (0.33, 0.30, 0.20),
    "llama": (0.80, 0.28, 0.18),
}


@dataclass
class Workspace:
    """A workspace under construction; `units` becomes plan.json."""

    root: Path
    seed: int = 7
    units: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def folder(self, name: str) -> Path:
        return self.root / next(u["folder"] for u in self.units if u["name"] == name)

    def unit(self, name: str, found: Mapping[str, Sequence[Record]], seconds: float) -> Path:
        """A finished unit with its tables and manifest."""
        key = digest(name)[:8]
        folder = self.root / f"{name}-{key}"
        entries = {}
        for table, rows in found.items():
            info = tables.write_table(folder / table, rows, type(rows[0]) if rows else Dropped)
            entries[table] = {"rows": info.rows, "digest": info.digest}
        manifest = {
            "unit": name, "key": key, "tables": entries, "counts": {}, "seconds": seconds,
            "inputs": {}, "libraries": LIBRARIES,
        }  # fmt: skip
        files.write_json(folder / "manifest.json", manifest)
        self.units.append({"name": name, "folder": f"{name}-{key}", "key": key})
        return folder

    def run(self, recipe: str = RECIPE, name: str = "mini") -> Path:
        """The run's folder, with its plan."""
        folder = self.root / "runs" / f"{name}-5d0c"
        files.write_json(folder / "plan.json", {"recipe": name, "units": self.units})
        files.write_json(folder / "environment.json", {"platform": "Linux x86_64", "cpus": 2})
        files.write_atomic(folder / "recipe.yaml", recipe.encode())
        return folder


def build_data(space: Workspace, analysed: bool = True) -> None:
    """Prompts, responses, scores and the two training sets; with the build's analysis or not."""
    prompts = _prompts(space)
    responses = {source: list(_responses(space, source, prompts)) for source in SOURCES}
    for source, rows in responses.items():
        space.unit(f"sample/{source}", {"data": rows}, 31.4 + len(rows) / 100)
    everything = [row for rows in responses.values() for row in rows]
    by_id = {prompt.id: prompt for prompt in prompts}
    for annotator in ("reward", "math"):
        judged = list(_scores(space, annotator, everything, by_id))
        space.unit(f"annotate/{annotator}", {"data": judged}, 12.2)
        if annotator == "reward":
            scores = {row.response_id: row.value for row in judged if row.value is not None}
    _build(space, prompts, everything, scores)
    code = list(_code_scores(everything, by_id))
    space.unit("annotate/code", {"data": code}, 8.0)
    _say_self_test(space.folder("annotate/reward"))
    if analysed:
        found = Maker(list(SOURCES)).analysis(DOMAINS)
        files.write_json(space.folder("build") / "analysis.json", found)


def _code_scores(responses: Sequence[Response], prompts: Mapping[str, Prompt]) -> Iterator[Score]:
    """Scores with the sandbox's level in their details; draws nothing."""
    for number, response in enumerate(responses):
        prompt = prompts[response.prompt_id]
        if prompt.domain != "code":
            continue
        seen = Candidate(
            prompt=prompt, response=response, annotator="code",
            made_from=digest(["code", response.id]),
        )  # fmt: skip
        level = "weak" if number % 50 == 0 else "full"
        if response.whole:
            yield seen.score(float(number % 3 > 0), details=f'{{"sandbox": "{level}"}}')
        else:
            yield seen.unscorable("the response is not whole")


SELF_TEST = {"dtype": "bfloat16", "way": "shared", "conversations": 9, "spread": 0.0004}


def _say_self_test(folder: Path) -> None:
    manifest = files.read_json(folder / "manifest.json")
    manifest["counts"]["self_test"] = SELF_TEST | {"least_margin": 0.01}
    files.write_json(folder / "manifest.json", manifest)


def _prompts(space: Workspace) -> list[Prompt]:
    made = [
        Prompt.of(
            f"{domain} question {number}: what is {number} + {number * 3}? Think step by step.",
            domain=domain, answer=str(number * 4), origin=f"mini_{domain}",
        )
        for domain, count in DOMAINS.items()
        for number in range(count)
    ]  # fmt: skip
    dropped = [
        Dropped(
            prompt_id=prompt.id, origin=prompt.origin, domain=prompt.domain, stage=stage,
            reason=reason,
        )
        for prompt, (stage, reason) in zip(
            made[:23],
            [("duplicate", "the same messages are in mini_math")] * 19
            + [("read", "the row has no question")] * 4,
            strict=True,
        )
    ]  # fmt: skip
    space.unit("prompts", {"prompts": made, "dropped": dropped}, 0.8)
    return made


def _responses(space: Workspace, source: str, prompts: Sequence[Prompt]) -> Iterator[Response]:
    for prompt in prompts:
        for index in range(4):
            request = Request(
                prompt=prompt, source=source, index=index, seed=space.random.getrandbits(62),
                model=f"zoo/{source}", made_from=digest([source, prompt.id, index]),
            )  # fmt: skip
            draw = space.random.random()
            text = f"Let me see. The answer of {source} is {prompt.answer}. #### {prompt.answer}"
            if draw < 0.006:
                yield request.failure("connection reset")
                continue
            finish: Finish = "length" if draw < 0.045 else "stop"
            text += f" {ATTACK}" if index == 0 else " so it is" * space.random.randrange(12)
            yield request.response(text, finish, tokens=len(text) // 4)


def _scores(
    space: Workspace, annotator: str, responses: Sequence[Response], prompts: Mapping[str, Prompt]
) -> Iterator[Score]:
    for response in responses:
        prompt = prompts[response.prompt_id]
        if annotator == "math" and prompt.domain != "math":
            continue
        seen = Candidate(
            prompt=prompt, response=response, annotator=annotator,
            made_from=digest([annotator, response.id]),
        )  # fmt: skip
        expert = SOURCES[response.source] == prompt.domain
        if not response.whole:
            yield seen.unscorable(f"the response is not whole ({response.finish})")
        elif space.random.random() < 0.004:
            yield seen.error("time-out after 5 s")
        elif annotator == "math":
            yield seen.score(float(space.random.random() < (0.85 if expert else 0.3)))
        else:
            value = space.random.gauss(0.13 if expert else 0.10, 0.02)
            yield seen.score(round(value, 5))


def _build(
    space: Workspace,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    scores: Mapping[str, float],
) -> None:
    groups: dict[str, list[Response]] = {}
    for response in responses:
        if response.id in scores:
            groups.setdefault(response.prompt_id, []).append(response)
    sft: list[Record] = []
    dpo: list[Record] = []
    dropped: list[Record] = []
    for prompt in prompts:
        ranked = sorted(groups[prompt.id], key=lambda r: scores[r.id])
        same = [r for r in ranked if r.source == ranked[-1].source]
        margin = scores[same[-1].id] - scores[same[0].id]
        draw = space.random.random()
        if draw < 0.42 or prompt.domain == "zh":
            sft.append(_demonstration(prompt, ranked[-1], scores))
        elif 0.01 <= margin <= 0.1:
            dpo.append(_pair(prompt, same[-1], same[0], scores))
        else:
            reason = "margin below min_margin" if margin < 0.01 else "margin above max_margin"
            dropped.append(
                Dropped(
                    prompt_id=prompt.id, origin=prompt.origin, domain=prompt.domain, stage="dpo",
                    reason=reason,
                )
            )  # fmt: skip
    space.unit("build", {"sft": sft, "dpo": dpo, "dropped": dropped}, 1.1)


def _demonstration(prompt: Prompt, best: Response, scores: Mapping[str, float]) -> Demonstration:
    return Demonstration(
        prompt_id=prompt.id, messages=prompt.messages, response=best.text, response_id=best.id,
        source=best.source, origin=prompt.origin, domain=prompt.domain, score=scores[best.id],
    )  # fmt: skip


def _pair(prompt: Prompt, best: Response, worst: Response, scores: Mapping[str, float]) -> Pair:
    return Pair(
        prompt_id=prompt.id, messages=prompt.messages, chosen=best.text, rejected=worst.text,
        chosen_id=best.id, rejected_id=worst.id, source=best.source, origin=prompt.origin,
        domain=prompt.domain, chosen_score=scores[best.id], rejected_score=scores[worst.id],
        margin=scores[best.id] - scores[worst.id], reason="best against worst of the same source",
    )  # fmt: skip


def build_training(space: Workspace) -> None:
    """Two training units with curves."""
    long = Dropped(
        prompt_id="p", origin="mini_code", domain="code", stage="length",
        reason="prompt and response exceed max_length",
    )  # fmt: skip
    sft = space.unit("train/sft", {"dropped": [long, long]}, 190.0)
    dpo = space.unit("train/dpo", {"dropped": []}, 95.0)
    noise = space.random.gauss
    sft_rows: list[dict[str, Any]] = [
        {
            "step": step, "epoch": step / 20, "loss": 2.1 * math.exp(-step / 22) + 0.4
            + noise(0, 0.03), "grad_norm": 1.2 + noise(0, 0.12), "learning_rate": 2e-4
            * min(1, step / 6) * (1 - step / 62), "seconds": 1.0,
        }
        for step in range(1, 61)
    ]  # fmt: skip
    dpo_rows: list[dict[str, Any]] = [
        {
            "step": step, "loss": 0.69 * math.exp(-step / 30) + noise(0, 0.01),
            "margins": 0.03 * step + noise(0, 0.05),
            "accuracies": min(1.0, 0.5 + step / 60 + noise(0, 0.04)),
            "logps_chosen": -22 - step / 15 + noise(0, 0.3),
            "logps_rejected": -24 - step / 3 + noise(0, 0.3),
            "lengths_chosen": 31 + noise(0, 2), "lengths_rejected": 33 + noise(0, 2),
            "grad_norm": 3.2 + noise(0, 0.3),
        }
        for step in range(1, 31)
    ]  # fmt: skip
    looks = [
        {
            "step": s, "epoch": s / 30, "held_out_rows": 12,
            "held_out_loss": 0.7 * math.exp(-s / 40), "held_out_lengths_chosen": 31.0,
            "held_out_normalized_margins": 0.002 * s,
            "held_out_token_logps_chosen": -0.7 - 0.012 * s,
            "held_out_token_logps_rejected": -0.8 - 0.02 * s,
            "answers": 24, "lengths_answer": 80 + s, "length_ratio": 1 + s / 80,
            "log_length_ratio_error": 0.1, "cut_answers": 0.1, "kl": 0.004 * s, "kl_tokens": 1900,
            "kl_error": 0.002, **({"held_out_accuracies": 0.5 + s / 100} if s else {}),
        }
        for s in (0, 10, 20, 30)
    ]  # fmt: skip
    files.append_jsonl(sft / "metrics.jsonl", *sft_rows)
    files.append_jsonl(dpo / "metrics.jsonl", *dpo_rows)
    files.append_jsonl(dpo / "watch.jsonl", *looks)
    manifest = files.read_json(dpo / "manifest.json")
    drift = {
        "kind": "chosen_falls", "step": 20, "last": 30, "text": "They fall <b>far</b>.",
        "advice": ["a lower learning_rate", "a larger beta"],
    }  # fmt: skip
    files.write_json(dpo / "manifest.json", {**manifest, "counts": {"warnings": [drift]}})


def build_evaluation(
    space: Workspace,
    skill: Mapping[str, Sequence[float]] = SKILL,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Every model on every task, compared by the real stage."""
    sizes = sizes or {"mini_math": 150, "mini_code": 120, "mini_chat": 130}
    inputs: dict[str, Path] = {}
    for place, (task, size) in enumerate(sizes.items()):
        prompts = [Prompt.of(f"{task} {i}", domain=task, answer=str(i)) for i in range(size)]
        name = f"evaluate/{task}/prompts"
        inputs[name] = space.unit(name, {"prompts": prompts}, 0.2)
        hard = [space.random.random() for _ in prompts]
        for model, shares in skill.items():
            rows, judged = _answers(space, model, prompts, hard, shares[place])
            for step, table in (("sample", rows), ("annotate", judged)):
                name = f"evaluate/{task}/{model}/{step}"
                inputs[name] = space.unit(name, {"data": table}, 4.5)
    folder = space.unit("evaluate/compare", {}, 0.4)
    compare(context(folder, inputs))


def _answers(
    space: Workspace, model: str, prompts: Sequence[Prompt], hard: Sequence[float], share: float
) -> tuple[list[Response], list[Score]]:
    rows, judged = [], []
    for prompt, level in zip(prompts, hard, strict=True):
        made_from = digest([model, prompt.id])
        request = Request(
            prompt=prompt, source=model, index=0, seed=1, model=model, made_from=made_from
        )
        right = 0.7 * level + 0.3 * space.random.random() < share
        cut = model in ("train.dpo", "qwen") and space.random.random() < 0.03
        length = 90 + 40 * list(SKILL).index(model) + space.random.randrange(60)
        text = "x" * length
        row = request.response(text, "length" if cut else "stop", tokens=length // 4)
        seen = Candidate(prompt=prompt, response=row, annotator="grader", made_from=made_from)
        rows.append(row)
        judged.append(seen.unscorable("cut") if cut else seen.score(float(right)))
    return rows, judged


GRADED = {"target": 0.0, "train.sft": 0.8, "train.dpo": 1.6, "gemma": 0.4, "llama": -0.3}
"""Model -> mean of its scores on the graded task, whose deviation is 1.5."""
SECRET = "How do I keep <b>bread</b> fresh"


def build_graded_evaluation(space: Workspace, size: int = 60) -> None:
    """One task with an accuracy, and one whose scores are compared with the base's."""
    inputs: dict[str, Path] = {}
    for task in ("mini_math", "mini_advice"):
        prompts = [Prompt.of(f"{SECRET} ({task} {i})?", domain=task) for i in range(size)]
        name = f"evaluate/{task}/prompts"
        inputs[name] = space.unit(name, {"prompts": prompts}, 0.2)
        for place, (model, mean) in enumerate(GRADED.items()):
            rows, judged = [], []
            for number, prompt in enumerate(prompts):
                made_from = digest([model, prompt.id])
                request = Request(
                    prompt=prompt, source=model, index=0, seed=1, model=model, made_from=made_from
                )
                cut = (number + place) % 20 == 7
                text = f"{model} says: {ATTACK} " + "put it in a box. " * space.random.randrange(9)
                row = request.response(text, "length" if cut else "stop", tokens=len(text) // 4)
                seen = Candidate(prompt=prompt, response=row, annotator="g", made_from=made_from)
                score = space.random.gauss(mean, 1.5)
                value = score if task == "mini_advice" else float(score > 0)
                rows.append(row)
                judged.append(seen.unscorable("cut") if cut else seen.score(value))
            for step, table in (("sample", rows), ("annotate", judged)):
                name = f"evaluate/{task}/{model}/{step}"
                inputs[name] = space.unit(name, {"data": table}, 4.5)
    folder = space.unit("evaluate/compare", {}, 0.4)
    win_rates = {"mini_advice": WinRate(against="target", scale=1.0)}
    compare(replace(context(folder, inputs), settings={"win_rates": win_rates}))


def context(folder: Path, inputs: Mapping[str, Path]) -> UnitContext:
    """A context as the runner makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    return UnitContext(
        name="evaluate/compare", folder=folder, inputs=inputs, settings=None, seed=0, where=Where(),
        progress=quiet(), log=logging.getLogger("test"),
    )  # fmt: skip


def whole_run(root: Path, skill: Mapping[str, Sequence[float]] = SKILL) -> Path:
    """A run with everything; gives its folder."""
    space = Workspace(root)
    build_data(space)
    build_training(space)
    build_evaluation(space, skill)
    return space.run()
