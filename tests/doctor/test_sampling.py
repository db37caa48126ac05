"""Sampling settings against the model's own."""

from __future__ import annotations

from tests.doctor.doctor_tokenizers import checks
from tests.tiny_models import tiny_config

from fusechat.doctor import sampling
from fusechat.sources.hf import Hf

QWEN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
"""As generation_config.json of Qwen2.5-72B-Instruct has it."""


def test_a_recipe_that_samples_otherwise_than_the_model_recommends_is_noted() -> None:
    part = Hf(model="target", temperature=0.7, top_p=0.8, repetition_penalty=1.05)
    (found,) = sampling.own_settings(part, QWEN, served=False)
    assert found.what == "its generation_config.json recommends top_k 20 (here none)."
    same = part.model_copy(update={"top_k": 20})
    assert checks(sampling.own_settings(same, QWEN, served=False)) == set()


def test_what_a_recipe_leaves_to_the_server_is_noted() -> None:
    part = Hf(model="target", temperature=0.7, top_p=0.8, repetition_penalty=1.05)
    (found,) = sampling.own_settings(part, QWEN, served=True)
    assert found.check == "sampling-filled-in"
    assert "top_k 20" in found.what


def test_a_generation_config_that_says_nothing_gives_no_finding() -> None:
    assert checks(sampling.own_settings(Hf(model="target"), {"eos_token_id": 2}, False)) == set()


def test_many_samples_at_temperature_0_are_all_alike() -> None:
    cold = Hf(model="target", temperature=0)
    assert checks(sampling.greedy(cold, 5)) == {"warning:greedy-samples"}
    assert checks(sampling.greedy(cold, 1)) == set()
    assert checks(sampling.greedy(Hf(model="target"), 5)) == set()


def test_float16_for_bfloat16_weights_is_warned_of() -> None:
    made = tiny_config("gemma2", dtype="bfloat16")
    half = Hf(model="target", dtype="float16")
    full = Hf(model="target", dtype="bfloat16")
    assert checks(sampling.number_format(half, made)) == {"warning:dtype-narrower"}
    assert checks(sampling.number_format(full, made)) == set()
    assert checks(sampling.number_format(half, tiny_config("gemma2", dtype="float16"))) == set()
