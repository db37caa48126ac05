"""Faults of build rules: each names its key and says the mend."""

from __future__ import annotations

from typing import Any

from fusechat.stages.build_settings import BuildSettings

ANNOTATORS = {"rm": None, "math": ["math"], "code": ["code"]}
DOMAINS = ["chat", "math", "code", "zh"]


def faults(rules: dict[str, Any], domains: Any = DOMAINS) -> dict[str, str]:
    sources = {"gemma": None, "qwen": ["math"]}
    return dict(BuildSettings.model_validate(rules).faults(ANNOTATORS, sources, domains))


def test_the_papers_rules_have_no_fault(paper_rules: dict[str, Any]) -> None:
    assert faults(paper_rules) == {}
    settings = BuildSettings.model_validate(paper_rules)
    assert settings.annotators() == ("rm", "math", "code")
    assert settings.emits("sft")
    assert settings.emits("dpo")
    assert not BuildSettings.model_validate({"zh": paper_rules["zh"]}).emits("dpo")


def test_faults_name_the_key_and_the_mend(paper_rules: dict[str, Any]) -> None:
    rules = paper_rules
    rules["chat"]["dpo"]["min_margin"] = 0.2
    rules["chat"]["sft"]["by"] = "coed"
    rules["math"]["sft"]["correct_by"] = "code"
    rules["math"]["sources"] = ["gema"]
    rules["code"]["sources"] = ["qwen"]
    rules["code"]["sft"] = {"use": "correct_over_incorrect", "by": "rm", "correct_by": "code"}
    rules["zh"]["dpo"] = {"use": "same_source_margin", "by": "rm"}
    assert faults(rules) == {
        "chat.dpo.min_margin": "0.2 is above max_margin (0.1), so no pair can pass. "
        "FuseChat-3.0 uses 0.01 to 0.1.",
        "chat.sft.by": "there is no annotator 'coed'. Did you mean 'code'?",
        "math.sft.correct_by": "the annotator 'code' does not judge the domain 'math'. "
        "Add 'math' to its domains, or read another one.",
        "math.sources": "there is no source 'gema'. Did you mean 'gemma'?",
        "code.sources": "the source 'qwen' has no samples for the domain 'code'. "
        "Add 'code' to its samples, or remove it here.",
        "code.sft.use": "'correct_over_incorrect' gives Pair rows, but sft needs Demonstration "
        "rows. Move it to dpo, or use another strategy here.",
        "zh.dpo": "the split rule 'sft_only' never makes DPO rows. Remove this strategy, or use "
        "another split rule.",
    }


def test_a_missing_strategy_and_a_missing_rule_are_faults(paper_rules: dict[str, Any]) -> None:
    del paper_rules["zh"], paper_rules["math"]["dpo"]
    paper_rules["maths"] = paper_rules.pop("math")
    found = faults(paper_rules)
    assert found["maths.dpo"].startswith("the split rule 'pair_else_sft' needs a strategy here.")
    assert "'sft_only'" in found["maths.dpo"]
    assert found["maths"] == "no prompts have the domain 'maths'. Did you mean 'math'?"
    assert found["zh"].startswith("there is no rule for the domain 'zh'")
    assert "math" in found
    assert "zh" not in faults(paper_rules, None)
