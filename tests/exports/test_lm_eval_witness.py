"""lm-eval as a witness: its own code on our tasks, against our graders and our sampling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusechat.chat import DATE, encode_chat, load_tokenizer
from fusechat.exports.lm_eval import export_lm_eval
from fusechat.parts import Annotator, Where, load_part
from fusechat.records import Candidate, Prompt, Request, Response
from fusechat.sources.hf import Hf
from fusechat.tasks._benchmark import Benchmark
from tiny_models import tiny_model

pytestmark = [
    pytest.mark.skipif(
        find_spec("lm_eval") is None, reason="needs lm-eval: pip install 'fusechat[lm_eval]'"
    ),
    pytest.mark.filterwarnings("ignore"),
]
PROFILES = ("paper", "robust")


def benchmark(name: str, data: Path) -> Benchmark:
    part = load_part("tasks", {"use": name, "data_dir": str(data)})
    assert isinstance(part, Benchmark)
    return part


def prompts_of(name: str, data: Path) -> dict[str, Prompt]:
    return {row.id: row for row in benchmark(name, data).prompts("test") if isinstance(row, Prompt)}


def documents(out: Path, name: str) -> list[dict[str, Any]]:
    text = (out / "data" / f"fusechat_{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def our_verdicts(
    name: str, data: Path, profile: str, pairs: Sequence[tuple[Prompt, Response]]
) -> list[float | None]:
    """Values of a benchmark's grader, None where it gives none."""
    settings = benchmark(name, data).graders()[profile]  # type: ignore[index]
    part = load_part("annotators", settings)
    assert isinstance(part, Annotator)
    rows = [
        Candidate(prompt=prompt, response=response, annotator=profile, made_from=str(at))
        for at, (prompt, response) in enumerate(pairs)
    ]
    with part.open(Where()) as work:
        return [score.value for score in work(iter(rows))]


def stored(prompt: Prompt, text: str) -> Response:
    return Response(
        id="r", prompt_id=prompt.id, source="s", index=0, text=text, finish="stop", model="m",
        made_from="x",
    )  # fmt: skip


def their_verdicts(
    out: Path, name: str, docs: Sequence[dict[str, Any]], texts: Sequence[str]
) -> dict[str, list[float]]:
    """Filter -> values, by lm-eval's own filters and metric on given responses."""
    from lm_eval.api.instance import Instance
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(out), include_defaults=False)
    loaded = manager.load([f"fusechat_{name}"])
    task = loaded["tasks"][f"fusechat_{name}"]
    instances = []
    for doc, text in zip(docs, texts, strict=True):
        one = Instance("generate_until", doc, ("", {}), 0)
        one.resps = [text]
        instances.append(one)
    task._instances = instances
    task.apply_filters()
    return {
        called: [
            float(task.process_results(one.doc, [one.filtered_resps[called]])["exact_match"])
            for one in instances
        ]
        for called in instances[0].filtered_resps
    }


SAID = {
    "choice": (
        "Step 1: think of it.\nThe best answer is {}.",
        "The best answer is ({}).",
        "So the answer is {}",
    ),
    "math": (
        "We add them. The result is $\\boxed{{{}}}$.",
        "Therefore \\[\\boxed{{ {} }}\\]",
        "First \\boxed{{17}} was a guess. So it is \\boxed{{{}}}.",
    ),
}


@pytest.mark.parametrize("name", ["gsm8k", "amc23", "math", "mmlu_pro", "mmlu", "mmlu_redux"])
def test_answers_in_plain_form_have_the_same_verdict_there_and_here(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    """Right ones of the gold answer, wrong ones of another item's, in three plain sentences."""
    out = tmp_path / "out"
    (done,) = export_lm_eval(out, [name], str(shared_data), take=120)
    assert done.items == (40 if name == "amc23" else 120)
    docs, known = documents(out, name), prompts_of(name, shared_data)
    kind = "choice" if "choices" in docs[0] else "math"
    asked, texts, wanted = [], [], []
    for at, doc in enumerate(docs):
        other = next(d["gold"] for d in docs[at:] + docs if differs(d["gold"], doc["gold"]))
        for answer, right in ((doc["gold"], 1.0), (other, 0.0)):
            asked.append(doc)
            texts.append(SAID[kind][at % 3].format(answer))
            wanted.append(right)
    theirs = their_verdicts(out, name, asked, texts)
    read = "boxed" if kind == "math" else "last"
    assert theirs[read] == wanted
    assert theirs[{"boxed": "boxed", "last": "first"}[read]] == wanted
    pairs = [(known[d["id"]], stored(known[d["id"]], t)) for d, t in zip(asked, texts, strict=True)]
    for profile in PROFILES:
        ours = our_verdicts(name, shared_data, profile, pairs)
        unlike = [
            (doc["item"], doc["gold"], text, mine, there)
            for doc, text, mine, there in zip(asked, texts, ours, wanted, strict=True)
            if mine != there
        ]
        assert not unlike, (profile, unlike)


def differs(one: str, other: str) -> bool:
    """Whether two gold answers differ for sure: as texts, and not by a factor of 100."""
    try:
        ratio = float(one) / float(other)
    except (ValueError, ZeroDivisionError):
        return one.replace(" ", "") != other.replace(" ", "")
    return all(abs(ratio - factor) > 1e-3 * factor for factor in (0.01, 1.0, 100.0))


SPELT = [
    ("1,234", "1234"), ("\\$18", "18"), ("18.", "18"), ("\\dfrac{1}{2}", "\\frac{1}{2}"),
    ("\\left(1, 2\\right)", "(1,2)"), ("x^{2} + 1", "x^{2}+1"),
]  # fmt: skip


def test_spellings_that_say_nothing_are_the_same_there_and_here(tmp_path: Path) -> None:
    rows = [{"problem": f"Which is {n}?", "answer": gold} for n, (_, gold) in enumerate(SPELT)]
    write_lines(tmp_path / "data" / "math_test.jsonl", rows)
    data, out = tmp_path / "data", tmp_path / "out"
    export_lm_eval(out, ["math"], str(data))
    docs, known = documents(out, "math"), prompts_of("math", data)
    texts = [f"It is $\\boxed{{{said}}}$" for said, _ in SPELT]
    assert their_verdicts(out, "math", docs, texts) == {"boxed": [1.0] * len(SPELT)}
    pairs = [(known[d["id"]], stored(known[d["id"]], t)) for d, t in zip(docs, texts, strict=True)]
    for profile in PROFILES:
        assert our_verdicts("math", data, profile, pairs) == [1.0] * len(SPELT), profile


def test_where_they_need_not_agree_lm_eval_says_wrong_and_we_say_why(tmp_path: Path) -> None:
    """Equal values written otherwise, a unit, a letter in other words, a letter taken back."""
    write_lines(tmp_path / "math_test.jsonl", [{"problem": "Half?", "answer": "\\frac{1}{2}"}])
    choices(tmp_path, ["B"])
    out = tmp_path / "out"
    export_lm_eval(out, ["math", "mmlu_pro"], str(tmp_path))
    texts = ["\\boxed{0.5}"]
    assert their_verdicts(out, "math", documents(out, "math"), texts) == {"boxed": [0.0]}
    (prompt,) = prompts_of("math", tmp_path).values()
    for profile in PROFILES:
        assert our_verdicts("math", tmp_path, profile, [(prompt, stored(prompt, texts[0]))]) == [1]
    (doc,), (prompt,) = documents(out, "mmlu_pro"), prompts_of("mmlu_pro", tmp_path).values()
    texts = ["Answer: B", "The answer is A. No: the answer is B."]
    theirs = their_verdicts(out, "mmlu_pro", [doc, doc], texts)
    assert theirs == {"first": [0.0, 0.0], "last": [0.0, 1.0]}
    pairs = [(prompt, stored(prompt, text)) for text in texts]
    assert our_verdicts("mmlu_pro", tmp_path, "paper", pairs) == [1.0, 0.0]
    assert our_verdicts("mmlu_pro", tmp_path, "robust", pairs) == [1.0, 1.0]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def choices(folder: Path, gold: Sequence[str]) -> None:
    """MMLU-Pro's layout, one question for each gold letter."""
    rows = [
        {"question_id": n, "question": f"Which of {n}?", "options": ["w", "x", "y", "z"],
         "answer": letter, "answer_index": "ABCD".index(letter), "category": "law", "src": "made"}
        for n, letter in enumerate(gold)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "mmlu_pro_test.parquet")


LEARNT = {
    "gsm8k": "Then it is \\boxed{{{}}}.",
    "mmlu_pro": "Think.\nThe best answer is {}.",
}
RIGHT = {"gsm8k": [1, 0, 1, 1, 0, 1], "mmlu_pro": [1, 1, 0, 1, 0, 0]}


def taught(folder: Path, data: Path) -> Path:
    """A tiny model that has learnt an answer to each item by heart, some of them wrong ones."""
    import torch
    from transformers import AutoModelForCausalLM

    tiny_model(folder, "llama", hidden_size=64, max_position_embeddings=4096)
    tokenizer = load_tokenizer(folder)
    rows = []
    for name, form in LEARNT.items():
        for prompt, right in zip(prompts_of(name, data).values(), RIGHT[name], strict=True):
            gold = str(prompt.answer)
            wrong = str(int(gold) + 1) if gold.isdigit() else "ABCD"["ABCD".index(gold) - 1]
            turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
            rows.append(encode_chat(tokenizer, turns, form.format(gold if right else wrong)))
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        labels[at, row.response_start : len(row.ids)] = torch.tensor(row.ids[row.response_start :])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(600):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 1e-2:
            break
    assert loss.item() < 0.05, loss.item()
    model.save_pretrained(folder)
    return folder


def their_run(model: Path, out: Path, results: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Scores by task, and the responses by document id, of lm-eval's own command."""
    day = DATE.strftime("%d %b %Y")
    arguments = {"pretrained": str(model), "dtype": "float32",
                 "chat_template_args": {"date_string": day}}  # fmt: skip
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf",
        "--model_args", json.dumps(arguments), "--tasks", "fusechat", "--include_path", str(out),
        "--apply_chat_template", "--batch_size", "1", "--log_samples", "--device", "cpu",
        "--output_path", str(results),
    ]  # fmt: skip
    caches = {"HF_DATASETS_CACHE": str(results / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env=os.environ | caches, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (scores,) = results.rglob("results_*.json")
    said = {}
    for path in results.rglob("samples_*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            said[row["doc"]["id"]] = row["resps"][0][0]
    found: dict[str, Any] = json.loads(scores.read_text())["results"]
    return found, said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_model_and_items_give_the_same_responses_and_scores(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    rows = [{"question": f"What is {n} and {n}?", "answer": f"#### {2 * n}"} for n in range(3, 9)]
    write_lines(data / "gsm8k_test.jsonl", rows)
    choices(data, "BACDCA")
    model = taught(tmp_path / "model", data)
    export_lm_eval(out, ["gsm8k", "mmlu_pro"], str(data))
    theirs, said = their_run(model, out, tmp_path / "results")
    for name, filters in (("gsm8k", ("boxed", "last-number")), ("mmlu_pro", ("first", "last"))):
        task, prompts = benchmark(name, data), prompts_of(name, data)
        part = Hf(model=str(model), dtype="float32", **task.decoding())
        asked = [
            Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from=prompt.id)
            for prompt in prompts.values()
        ]
        with part.open(Where()) as work:
            given = {row.prompt_id: row for row in work(iter(asked))}
        assert {key: row.text for key, row in given.items()} == {
            key: said[key].strip() for key in prompts
        }
        pairs = [(prompt, given[key]) for key, prompt in prompts.items()]
        wanted = [float(right) for right in RIGHT[name]]
        for profile in PROFILES:
            assert our_verdicts(name, data, profile, pairs) == wanted, (name, profile)
        for called in filters:
            share = theirs[f"fusechat_{name}"][f"exact_match,{called}"]
            assert share == pytest.approx(sum(wanted) / len(wanted)), (name, called)
