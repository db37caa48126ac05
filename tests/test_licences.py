"""Licences of model families: versions matter, and what is not known is None."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusechat.licences import LICENCES, licence_in_folder, licence_of, licence_tagged


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("google/gemma-2-27b-it", "gemma"),
        ("google/gemma-4-31b-it", "apache-2.0"),
        ("mistralai/Mistral-Large-Instruct-2407", "mrl"),
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", "apache-2.0"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0"),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen"),
        ("Qwen/Qwen2.5-Math-72B-Instruct", "qwen"),
        ("Qwen/Qwen2.5-7B-Instruct", "apache-2.0"),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2-72B-Instruct", "tongyi-qianwen"),
        ("Qwen/Qwen3-32B", "apache-2.0"),
        ("meta-llama/Llama-3.1-70B-Instruct", "llama3.1"),
        ("Meta-Llama-3.1-405B-Instruct-FP8", "llama3.1"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("meta-llama/Llama-2-70b-chat-hf", "llama2"),
        ("deepseek-ai/DeepSeek-R1", "mit"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama3.3"),
        ("deepseek-ai/DeepSeek-V3", "deepseek"),
        ("gpt-4o-2024-08-06", "openai-terms"),
        ("openai/gpt-oss-120b", "apache-2.0"),
    ],
)
def test_a_model_is_known_by_its_published_or_served_name(name: str, tag: str) -> None:
    found = licence_of(name)
    assert found is not None
    assert found.tag == tag


@pytest.mark.parametrize("name", ["my-model", "gemma", "llama", "acme/llm-3", "Qwen/Qwen3-Max"])
def test_a_model_that_is_not_in_the_table_has_no_licence_here(name: str) -> None:
    assert licence_of(name) is None


def test_llama_3_forbids_what_llama_3_1_allows_under_its_name() -> None:
    old, new = LICENCES["llama3"], LICENCES["llama3.1"]
    assert old.outputs == "forbidden"
    assert new.outputs == "conditions"
    assert new.prefix == "Llama"
    assert 'show "Built with Llama" prominently' in new.duties
    assert LICENCES["gemma"].prefix is None


def test_every_licence_says_where_that_is_said_and_duties_come_with_conditions() -> None:
    for licence in LICENCES.values():
        assert licence.origin
        assert licence.says
        assert licence.duties or licence.outputs in ("allowed", "forbidden"), licence.tag


def test_a_cards_own_licence_is_read_from_its_folder(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    assert licence_in_folder(tmp_path) is None
    card.write_text("---\nlicense: other\nlicense_name: qwen\n---\n# A model\n", "utf-8")
    assert licence_in_folder(tmp_path) == "qwen"
    card.write_text("---\nlicense: apache-2.0\n---\n", "utf-8")
    assert licence_in_folder(tmp_path) == "apache-2.0"
    card.write_text("# no header\nlicense: mit\n", "utf-8")
    assert licence_in_folder(tmp_path) is None
    card.write_text("---\nlicense: [\n---\n", "utf-8")
    assert licence_in_folder(tmp_path) is None


@pytest.mark.parametrize(
    ("tag", "known"), [("Llama 3.1", "llama3.1"), ("MRL", "mrl"), ("apache-2.0", "apache-2.0")]
)
def test_a_tag_is_known_in_the_spellings_of_cards(tag: str, known: str) -> None:
    found = licence_tagged(tag)
    assert found is not None
    assert found.tag == known
    assert licence_tagged("other") is None
