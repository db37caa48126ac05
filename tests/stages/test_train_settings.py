"""Training settings: Hugging Face's names, checked before anything runs."""

from __future__ import annotations

import logging

import pytest
from pydantic import ValidationError

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import settings_key
from fusechat.stages.train_settings import DpoSettings, SftSettings


def test_the_defaults_are_the_papers_for_llama_3_1_8b() -> None:
    sft, dpo = SftSettings(), DpoSettings()
    assert (sft.loss, sft.learning_rate, sft.num_train_epochs) == (Sft(), 5e-6, 3)
    assert (dpo.loss, dpo.learning_rate, dpo.num_train_epochs) == (
        LengthNormalizedDpo(beta=10), 8e-7, 1,
    )  # fmt: skip
    for each in (sft, dpo):
        assert (each.global_batch_size, each.max_length, each.warmup_steps) == (128, 2048, 0.1)
        assert (each.lr_scheduler_type, each.save_steps) == ("cosine", 100)


def test_a_loss_is_named_as_in_a_recipe() -> None:
    settings = DpoSettings.model_validate({"loss": {"use": "dpo", "beta": 0.01}})
    assert settings.loss == Dpo(beta=0.01)


def test_warmup_ratio_is_read_as_a_share_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert SftSettings.model_validate({"warmup_ratio": 0.2}).warmup_steps == 0.2
    assert "warmup_ratio is read as warmup_steps: 0.2" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_ratio": 0.1, "warmup_steps": 5}, "say the same thing"),
        ({"warmup_ratio": 5}, "share from 0 to below 1"),
        ({"warmup_steps": 1.5}, "whole number of steps"),
        ({"loss": "dpo"}, "learns from Pair rows, and this stage has Demonstration rows"),
        ({"learning_rat": 1.0}, "Extra inputs are not permitted"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"lr_scheduler_type": "cosign"}, "'cosine', 'linear' or 'constant'"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_reason(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SftSettings.model_validate(settings)


def test_what_only_says_how_fast_enters_no_key_and_what_changes_results_does() -> None:
    assert settings_key(SftSettings(gradient_checkpointing=True)) == {}
    assert settings_key(DpoSettings(loss=Dpo(beta=0.5), dtype="bfloat16")) == {
        "loss": {"use": "dpo", "version": 1, "settings": {"beta": 0.5}}, "dtype": "bfloat16",
    }  # fmt: skip
