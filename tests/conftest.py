"""Fixtures that every test may use. The only place that knows where the shared data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real benchmark data, where the machine has it; else the test skips."""
    folder = Path(os.environ.get("FUSECHAT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder; none at {folder} (set FUSECHAT_TEST_DATA)")
    return folder
