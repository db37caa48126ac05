"""Training runs where there is nothing but torch, transformers, numpy and safetensors."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
for name in ("pydantic", "pyarrow", "polars", "yaml", "aiohttp", "trl", "datasets", "peft"):
    sys.modules[name] = None  # an import of it fails from here on
import fusechat.packed, fusechat.training
found = []
for package in (fusechat.packed, fusechat.training):
    for module in pkgutil.iter_modules(package.__path__):
        found.append(importlib.import_module(f"{package.__name__}.{module.name}").__name__)
print(len(found))
"""


def test_no_module_of_training_needs_pydantic_pyarrow_or_trl_to_be_imported() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
