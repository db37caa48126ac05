"""The recipes of FuseChat-3.0 say what its README says, and need nothing but their models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fusechat.errors import RecipeError
from fusechat.planner import plan
from fusechat.recipe import Recipe, load_cluster, load_recipe
from fusechat.stages.split import Items

ROOT = Path(__file__).resolve().parents[2]

# README of FuseChat-3.0, tables of the sections Dataset, Response Sampling and Training.
TOTALS = {  # set -> (total, SFT, DPO)
    "openbmb/UltraFeedback": (51_098, 20_439, 30_659),
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": (20_374, 8_149, 12_225),
    "nvidia/HelpSteer2": (9_435, 3_774, 5_661),
    "nvidia/OpenMathInstruct-2": (51_803, 40_188, 11_615),
    "greengerong/leetcode": (3_113, 1_877, 1_236),
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": (12_892, 10_160, 2_732),
    "llamafactory/alpaca_gpt4_zh": (2_471, 2_471, 0),
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": (7_481, 7_481, 0),
}
SAMPLING = {  # model -> (temperature, top_p, repetition penalty)
    "google/gemma-2-27b-it": (0.8, 0.95, None),
    "mistralai/Mistral-Large-Instruct-2407": (0.8, 0.95, None),
    "Qwen/Qwen2.5-72B-Instruct": (0.7, 0.8, 1.05),
    "Qwen/Qwen2.5-Math-72B-Instruct": (0.7, 0.8, 1.05),
    "meta-llama/Llama-3.1-70B-Instruct": (0.8, 0.95, None),
}
SAMPLES = {  # model -> samples of a prompt, by domain; the number for math is not published
    "google/gemma-2-27b-it": {"chat": 5, "code": 8},
    "mistralai/Mistral-Large-Instruct-2407": {"chat": 5, "code": 8},
    "Qwen/Qwen2.5-72B-Instruct": {"chat": 5, "code": 8, "zh": 1},
    "meta-llama/Llama-3.1-70B-Instruct": {"chat": 5, "code": 8},
    "Qwen/Qwen2.5-Math-72B-Instruct": {"math": 5},
}
TRAINING = {  # recipe -> (target, SFT learning rate, DPO learning rate, beta, loss)
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B-Instruct", 5e-6, 8e-7, 10, "length_normalized_dpo"),
    "qwen-2.5-7b": ("Qwen/Qwen2.5-7B-Instruct", 2e-6, 3e-7, 0.01, "dpo"),
    "gemma-2-9b": ("google/gemma-2-9b-it", 2e-6, 5e-7, 0.01, "dpo"),
    "llama-3.2-3b": ("meta-llama/Llama-3.2-3B-Instruct", 5e-6, 1e-6, 10, "length_normalized_dpo"),
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", 5e-6, 1e-6, 10, "length_normalized_dpo"),
}
FILES = {key: ROOT / "recipes" / f"fusechat3-{key}.yaml" for key in TRAINING}
ALL = {
    **{path.stem: path for path in FILES.values()},
    "one-node-8gpu": ROOT / "recipes" / "one-node-8gpu.yaml",
    "fusion-2026": ROOT / "recipes" / "fusion-2026.yaml",
}
CLUSTERS = {"one-node-8gpu": "one-node.yaml", "fusion-2026": "fusion-2026-servers.yaml"}


def stand_in(cache: Path, name: str, architecture: str) -> None:
    """A snapshot in the hub's cache that looks like a model, as far as a check looks."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (snapshot / "model.safetensors").write_bytes(b"")
    (snapshot / "tokenizer.json").write_text("{}")
    (snapshot / "tokenizer_config.json").write_text('{"chat_template": "x"}')


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache with stand-ins of all targets and reward models."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for target in (*(row[0] for row in TRAINING.values()), "Qwen/Qwen3-4B-Instruct-2507"):
        stand_in(tmp_path / "hub", target, "LlamaForCausalLM")
    armorm = "LlamaForRewardModelWithGating"
    stand_in(tmp_path / "hub", "RLHFlow/ArmoRM-Llama3-8B-v0.1", armorm)
    classifier = "LlamaForSequenceClassification"
    stand_in(tmp_path / "hub", "Skywork/Skywork-Reward-V2-Llama-3.1-8B", classifier)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_is_whole_where_its_models_are_here(hub: Path, tmp_path: Path, name: str) -> None:
    recipe = load_recipe(ALL[name])
    assert recipe.name == name
    units = [unit.name for unit in plan(recipe, tmp_path / "ws").units]
    cluster = ROOT / "clusters" / CLUSTERS.get(name, "fusechat3-servers.yaml")
    where = load_cluster(cluster, units)
    servers = [n for n, e in recipe.sources.items() if e.part.part_name() == "endpoint"]
    assert all(where.where(f"sample/{n}").base_urls for n in servers)


@pytest.mark.parametrize("name", ALL)
def test_without_its_models_the_check_says_what_to_fetch_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RecipeError) as told:
        load_recipe(ALL[name])
    keys = [fault.key for fault in told.value.faults]
    reward = "reward" if name == "fusion-2026" else "armorm"
    assert sorted(keys) == [f"annotators.{reward}.model", "target.model"]
    assert all("hf download" in fault.message for fault in told.value.faults)


@pytest.mark.parametrize("key", TRAINING)
def test_prompt_sets_are_those_published_each_at_a_commit(hub: Path, key: str) -> None:
    recipe = load_recipe(FILES[key])
    sets = {e.part.path: e for e in recipe.prompts.values()}  # type: ignore[attr-defined]
    assert sets.keys() == TOTALS.keys()
    for entry in recipe.prompts.values():
        assert len(entry.part.revision) == 40  # type: ignore[attr-defined]
        assert entry.part.revision == entry.part.seen_commit  # type: ignore[attr-defined]
    takes = {path: entry.take for path, entry in sets.items() if entry.take}
    assert takes["nvidia/OpenMathInstruct-2"] == 58_546
    for name in ("llamafactory/alpaca_gpt4_zh", "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"):
        assert takes[name] == TOTALS[name][0]
    chat = [e for e in recipe.prompts.values() if e.wanted_domain() == "chat"]
    assert len(chat) == 3
    assert all(entry.leave_out == ("code", "math") for entry in chat)
    code = [e for e in recipe.prompts.values() if e.wanted_domain() == "code"]
    assert all(entry.requires == ("tests",) for entry in code)


@pytest.mark.parametrize("key", TRAINING)
def test_sampling_is_as_published(hub: Path, key: str) -> None:
    recipe = load_recipe(FILES[key])
    asked = {e.part.model: e for e in recipe.sources.values() if hasattr(e.part, "temperature")}
    assert asked.keys() == SAMPLING.keys()
    for model, (temperature, top_p, penalty) in SAMPLING.items():
        part: Any = asked[model].part
        assert (part.temperature, part.top_p, part.repetition_penalty) == (
            temperature,
            top_p,
            penalty,
        )
        assert part.max_new_tokens == 2048
        assert tuple(part.seeds) == (13, 21, 42, 79, 100, 1, 2, 3)
        assert asked[model].samples == SAMPLES[model]
    stored: Any = recipe.sources["llama_405b"].part
    problems: Any = recipe.prompts["openmathinstruct2"]
    assert (stored.path, stored.revision, stored.split) == (
        problems.part.path,
        problems.part.revision,
        problems.wanted_split(),
    )


@pytest.mark.parametrize("key", TRAINING)
def test_training_is_as_published(hub: Path, key: str) -> None:
    recipe = load_recipe(FILES[key])
    target, sft_rate, dpo_rate, beta, loss = TRAINING[key]
    tree = yaml.safe_load(FILES[key].read_text(encoding="utf-8"))
    assert tree["target"]["model"] == target
    sft, dpo = recipe.train.sft, recipe.train.dpo
    assert sft is not None
    assert dpo is not None
    assert (sft.learning_rate, sft.num_train_epochs) == (sft_rate, 3)
    assert (dpo.learning_rate, dpo.num_train_epochs) == (dpo_rate, 1)
    assert (dpo.loss.part_name(), dpo.loss.beta) == (loss, beta)  # type: ignore[attr-defined]
    for stage in (sft, dpo):
        assert (stage.global_batch_size, stage.max_length) == (128, 2048)
        assert (stage.lr_scheduler_type, stage.warmup_steps) == ("cosine", 0.1)
    assert (dpo.save_steps, dpo.save_total_limit, dpo.max_prompt_length) == (100, 2, 1800)
    assert (dpo.select.by, dpo.select.checkpoints) == ("held_out", 2)


@pytest.mark.parametrize("key", TRAINING)
def test_the_build_splits_the_chat_sets_into_the_published_rows(hub: Path, key: str) -> None:
    recipe = load_recipe(FILES[key])
    assert recipe.build is not None
    rules = recipe.build.domains
    names = list(TOTALS)[:3]
    origin = np.repeat(np.arange(3), [TOTALS[name][0] for name in names])
    ids = np.array([f"{n:08d}" for n in range(len(origin))], object)
    every = np.ones(len(origin), np.bool_)
    placed = rules["chat"].split.place_all(Items(ids, origin.astype(np.int32), every, every))
    for number, name in enumerate(names):
        rows = origin == number
        assert (placed.sft[rows].sum(), placed.dpo[rows].sum()) == TOTALS[name][1:]
    windows = {d: (r.dpo.min_margin, r.dpo.max_margin) for d, r in rules.items() if r.dpo}  # type: ignore[attr-defined]
    assert windows == {"chat": (0.01, 0.1), "math": (0.01, 0.1), "code": (None, None)}
    assert rules["zh"].split.rule == "sft_only"


def test_five_targets_share_every_unit_before_training(hub: Path, tmp_path: Path) -> None:
    keys = []
    for path in FILES.values():
        units = plan(load_recipe(path), tmp_path / "ws").units
        later = ("train", "select", "evaluate")
        keys.append({u.name: u.key for u in units if not u.name.startswith(later)})
    assert all(found == keys[0] for found in keys)
    assert {"prompts", "sample/gemma", "annotate/armorm", "build"} <= keys[0].keys()


def test_one_node_makes_the_same_rows_as_many_servers(hub: Path) -> None:
    """All but the way in which a model is served."""

    def said(recipe: Recipe) -> dict[str, Any]:
        tree = yaml.safe_load(recipe.text)
        for source in tree["sources"].values():
            source.pop("use")
        return {k: tree[k] for k in ("prompts", "sources", "annotators", "build", "train")}

    one, many = load_recipe(ALL["one-node-8gpu"]), load_recipe(FILES["llama-3.1-8b"])
    assert said(one) == said(many)
    uses = {entry.part.part_name() for entry in one.sources.values()}
    assert uses == {"vllm", "given"}
