"""Fixtures of the doctor's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.doctor.doctor_tokenizers import llama3_tokenizer, published


@pytest.fixture(scope="session")
def llama3(shared_data: Path) -> Any:
    vocabulary = shared_data / "tokenizers" / "llama3.tiktoken.model"
    return llama3_tokenizer(vocabulary, published(shared_data, "llama-3-instruct"))
