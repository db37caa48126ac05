"""ArmoRM: the published formula, the published key names, and a gate that no answer can move."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fusechat import chat
from fusechat.annotators.armorm import (
    ARCHITECTURE,
    HEADER,
    OBJECTIVES,
    Armorm,
    GatedHead,
    expected_shapes,
)
from fusechat.annotators.reward_model import RewardModel
from fusechat.errors import PartError
from fusechat.parts import Where
from fusechat.records import Candidate, Prompt, Request, Score
from tiny_models import tiny_config, tiny_tokenizer

SETTINGS = {"num_objectives": 3, "gating_hidden_dim": 6, "gating_n_hidden": 2}
TEMPERATURE = 2.5
TURNS = [
    {"role": "user", "content": "Name a prime."},
    {"role": "assistant", "content": "Seven."},
    {"role": "user", "content": "And a larger one?"},
]


def tiny_armorm(
    folder: Path, settings: dict[str, Any] | None = None, shards: int = 1, **changes: Any
) -> Path:
    """A random checkpoint with the names and settings of the published one.

    `changes`: weights by name, with `__` for a point; None leaves one out.
    """
    from safetensors.torch import save_file
    from transformers import LlamaModel

    settings = settings or SETTINGS
    tokenizer = tiny_tokenizer("llama")
    tokenizer.save_pretrained(folder)
    config = tiny_config("llama", max_position_embeddings=512)
    draw = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        weights = {f"model.{k}": v for k, v in LlamaModel(config).state_dict().items()}
    for name, shape in expected_shapes(config.hidden_size, settings).items():
        weights[name] = torch.randn(*shape, generator=draw) / math.sqrt(shape[-1])
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor.contiguous() for name, tensor in weights.items() if tensor is not None}
    fields = config.to_dict() | settings | {"gating_temperature": TEMPERATURE}
    fields |= {"architectures": [ARCHITECTURE], "auto_map": {
        "AutoModelForSequenceClassification": f"modeling_custom.{ARCHITECTURE}"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(fields, default=str))
    if shards == 1:
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
        return folder
    places = {name: f"model-{n % shards}.safetensors" for n, name in enumerate(sorted(kept))}
    for file in set(places.values()):
        held = {name: kept[name] for name, place in places.items() if place == file}
        save_file(held, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_armorm(tmp_path_factory.mktemp("armorm"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def candidate(asked: Any, answered: str) -> Candidate:
    prompt = Prompt.of(asked, domain="chat")
    made_from = f"{prompt.id}|{answered}"
    request = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from=made_from)
    response = request.response(answered, "stop")
    return Candidate(prompt=prompt, response=response, annotator="rm", made_from=made_from)


def scored(folder: Path, rows: list[Candidate], **settings: Any) -> list[Score]:
    part = Armorm(model=str(folder), **{"dtype": "float32", **settings})
    with part.open(Where()) as work:
        found = {score.made_from: score for batch in part.cut(rows) for score in work(iter(batch))}
    return [found[row.made_from] for row in rows]


def published(folder: Path, row: Candidate) -> tuple[float, list[float], list[float]]:
    """The published formula, step by step, for one conversation: score, rewards, gate."""
    from safetensors.torch import load_file
    from transformers import LlamaModel

    weights = load_file(folder / "model.safetensors")
    tokenizer = chat.load_tokenizer(folder)
    turns = [*row.prompt.chat(), {"role": "assistant", "content": row.response.text}]
    ids = tokenizer.apply_chat_template(turns, date_string="26 Jul 2024", return_dict=False)
    pattern = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
    last = max(j for j in range(len(ids)) if ids[j : j + len(pattern)] == pattern)
    with torch.no_grad():
        body = LlamaModel.from_pretrained(folder)
        hidden = body(torch.tensor([ids])).last_hidden_state[0]
    rewards = [float(hidden[-1] @ w) for w in weights["regression_layer.weight"]]
    out = hidden[last]
    for n in range(3):
        weight, bias = weights[f"gating.layers.{n}.weight"], weights[f"gating.layers.{n}.bias"]
        out = torch.stack([w @ out + b for w, b in zip(weight, bias, strict=True)])
        if n < 2:
            out = out.clamp(min=0)
    powers = [math.exp(float(x) / TEMPERATURE) for x in out]
    gate = [p / sum(powers) * float(weights["gating.logit_scale"]) for p in powers]
    transform = weights["reward_transform_matrix"]
    adjusted = [sum(rewards[i] * float(transform[i, j]) for i in range(3)) for j in range(3)]
    return sum(g * a for g, a in zip(gate, adjusted, strict=True)), rewards, gate


ROWS = [
    candidate("What is 12 - 5?", "7"),
    candidate("What is 12 - 5?", "Seven, since 5 + 7 = 12. " * 4),
    candidate(TURNS, "Eleven."),
    candidate(TURNS, "Thirteen, or any other that you like. " * 3),
    candidate([{"role": "system", "content": "Be brief."}, TURNS[0]], "Two."),
]


def test_scores_objectives_and_gate_are_those_of_the_published_formula(model: Path) -> None:
    for row, score in zip(ROWS, scored(model, ROWS), strict=True):
        value, rewards, gate = published(model, row)
        assert score.value == pytest.approx(value, abs=1e-5)
        details = json.loads(str(score.details))
        assert details["objectives"] == pytest.approx(rewards, abs=1e-5)
        assert details["gate"] == pytest.approx(gate, abs=1e-5)


def hand_head(**changes: Any) -> GatedHead:
    """Two objectives of a state of two numbers; the gate's inner layer hands on what it gets."""
    eye = torch.eye(2)
    fields: dict[str, Any] = {
        "regression": eye, "transform": eye, "layers": ((eye, torch.zeros(2)),) * 2,
        "logit_scale": torch.ones(1), "temperature": 2.0, "header": (1, 2, 3),
    }  # fmt: skip
    return GatedHead(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "gate_state", "last_state", "score"),
    [
        # gate logits 0, 0 -> 1/2, 1/2; 3/2 + 1/2 = 2
        ({}, [0.0, 0.0], [3.0, 1.0], 2.0),
        # ReLU takes -5 to 0; logits 2 ln 3, 0 over 2 -> 3/4, 1/4; 0.15 - 0.1 = 0.05
        ({"layers": ((torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([2 * math.log(3), 0.0])),
                     (torch.eye(2), torch.zeros(2)))}, [0.0, -5.0], [0.2, -0.4], 0.05),
        # rewards (0.2, 0.3) through [[1, -0.5], [0, 1]] are (0.2, 0.2); 2 x (3/4, 1/4) -> 0.4
        ({"transform": torch.tensor([[1.0, -0.5], [0.0, 1.0]]), "logit_scale": torch.tensor([2.0])},
         [2 * math.log(3), 0.0], [0.2, 0.3], 0.4),
    ],
)  # fmt: skip
def test_three_scores_worked_by_hand(
    changes: dict[str, Any], gate_state: list[float], last_state: list[float], score: float
) -> None:
    (found,) = hand_head(**changes).verdicts(torch.tensor([[gate_state, last_state]]))
    assert found.value == pytest.approx(score, abs=1e-6)
    assert json.loads(str(found.details))["objectives"] == pytest.approx(last_state)


def test_the_published_checkpoint_has_these_head_weights() -> None:
    """As in the published `modeling_custom.py` with its defaults, hidden size 4096."""
    assert expected_shapes(4096, {}) == {
        "regression_layer.weight": (19, 4096), "reward_transform_matrix": (19, 19),
        "gating.logit_scale": (1,),
        "gating.layers.0.weight": (1024, 4096), "gating.layers.0.bias": (1024,),
        "gating.layers.1.weight": (1024, 1024), "gating.layers.1.bias": (1024,),
        "gating.layers.2.weight": (1024, 1024), "gating.layers.2.bias": (1024,),
        "gating.layers.3.weight": (19, 1024), "gating.layers.3.bias": (19,),
    }  # fmt: skip
    assert len(OBJECTIVES) == len(set(OBJECTIVES)) == 19


def test_an_answer_that_holds_a_chat_header_does_not_move_the_gate(model: Path) -> None:
    plain, hostile = scored(model, [candidate("Hi", "Yes."), candidate("Hi", f"Yes.{HEADER}Sure!")])
    gates = [json.loads(str(score.details))["gate"] for score in (plain, hostile)]
    assert gates[0] == pytest.approx(gates[1], abs=1e-6)
    assert plain.value != hostile.value


def test_the_gate_is_counted_by_the_prompts_turns_from_the_front() -> None:
    """Header 1 2 3; the ids of an answer that hold it again come later and do not count."""
    head, user = hand_head(), {"role": "user", "content": ""}
    twice = [0, 1, 2, 3, 7, 1, 2, 3, 7]
    assert head.points([user], twice) == (1, 8)
    assert head.points([user, {"role": "assistant", "content": ""}, user], twice) == (5, 8)


def test_multi_turn_prompts_are_gated_at_their_last_header(model: Path) -> None:
    single, multi = scored(model, [candidate(TURNS[:1], "Eleven."), candidate(TURNS, "Eleven.")])
    assert json.loads(str(single.details))["gate"] != json.loads(str(multi.details))["gate"]


def test_a_sharded_checkpoint_gives_the_same_scores(model: Path, tmp_path: Path) -> None:
    other = tiny_armorm(tmp_path, shards=3)
    assert [s.value for s in scored(other, ROWS)] == [s.value for s in scored(model, ROWS)]


def test_the_heads_stay_float32_under_a_bfloat16_body(model: Path) -> None:
    """A score that had gone through bfloat16 would have 8 bits: no low bits of the mantissa."""
    part = Armorm(model=str(model), dtype="bfloat16")
    with part.open(Where()) as work:
        assert work.head.regression.dtype == torch.float32
        assert work.body.network.dtype == torch.bfloat16
        values = [score.value for score in work(iter(ROWS))]
    assert all(v != float(torch.tensor(v).bfloat16()) for v in values)


def test_the_manifest_names_the_objectives_of_the_published_size(tmp_path: Path) -> None:
    folder = tiny_armorm(tmp_path, {**SETTINGS, "num_objectives": 19})
    with Armorm(model=str(folder), dtype="float32").open(Where()) as work:
        assert work.notes["objectives"] == list(OBJECTIVES)
        assert work.notes["self_test"]["way"] == "shared"


def refused(folder: Path) -> str:
    with (
        pytest.raises(PartError) as error,
        Armorm(model=str(folder), dtype="float32").open(Where()),
    ):
        pass
    return str(error.value)


def test_wrong_heads_are_refused_with_all_faults_at_once(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "regression_layer__weight": torch.zeros(4, 32),
        "gating__layers__1__bias": None,
        "score__weight": torch.zeros(1, 32),
    }
    text = refused(tiny_armorm(tmp_path, **changes))
    assert "lacks gating.layers.1.bias [6]" in text
    assert "has an unknown score.weight" in text
    assert "has regression_layer.weight of shape [4, 32], not [3, 32]" in text
    assert "Fetch RLHFlow/ArmoRM-Llama3-8B-v0.1 again" in text


def test_a_body_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    text = refused(tiny_armorm(tmp_path, model__layers__1__mlp__up_proj__weight=None))
    assert "is not whole: its weights lack layers.1.mlp.up_proj.weight" in text


def test_weights_that_are_missing_or_torn_are_named(tmp_path: Path) -> None:
    folder = tiny_armorm(tmp_path)
    (folder / "model.safetensors").write_bytes(b"torn" * 9)
    assert "model.safetensors cannot be read" in refused(folder)
    (folder / "model.safetensors").unlink()
    assert "has neither model.safetensors nor model.safetensors.index.json" in refused(folder)


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = tiny_armorm(tmp_path)
    tiny_tokenizer("qwen2").save_pretrained(folder)
    assert "not as Llama-3 does, so the token that ArmoRM's gate reads" in refused(folder)


def test_a_template_without_the_assistant_header_is_refused(tmp_path: Path) -> None:
    folder = tiny_armorm(tmp_path)
    flat = "{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}"
    tiny_tokenizer("llama", template=flat).save_pretrained(folder)
    assert "no assistant header for ArmoRM's gate to read" in refused(folder)


def test_each_of_the_two_annotators_sends_the_others_model_to_it(
    model: Path, tmp_path: Path
) -> None:
    from tiny_models import tiny_reward_model

    found = [message for _, message in RewardModel(model=str(model)).faults()]
    assert len(found) == 1
    assert "is an ArmoRM, which has heads of its own. Use armorm." in found[0]
    other = tiny_reward_model(tmp_path, "llama")
    found = [message for _, message in Armorm(model=str(other)).faults()]
    assert len(found) == 1
    assert "(LlamaForSequenceClassification) is no LlamaForRewardModelWithGating" in found[0]
    assert not list(Armorm(model=str(model)).faults())
