"""`fusechat serve MODEL`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from fusechat.errors import FusechatError, MissingExtraError
from fusechat.local_models import Dtype, is_local, model_faults
from fusechat.parts import Where, package_fault
from fusechat.settings import ModelName, model_fault


class _Model(BaseModel):
    """The model as recipes name one."""

    model: ModelName
    dtype: Dtype = "auto"


class ServeError(FusechatError):
    """The call of `serve` is wrong; lists all that is."""

    exit_code = 2


def serve(options: argparse.Namespace) -> int:
    """Serve one model until the process is told to stop."""
    for package in ("starlette", "uvicorn"):
        if package_fault(package, "serve"):
            raise MissingExtraError("fusechat serve", package, "serve")
    chosen, key = _checked(options)
    from fusechat.serving.app import create_app
    from fusechat.serving.engine import LocalEngine
    from fusechat.serving.faults import Faults
    from fusechat.serving.server import listen, url_of
    from fusechat.serving.server import serve as run

    faults = Faults.read(options.faults) if options.faults else None
    where = Where(device=options.device, threads=options.threads)
    name = options.served_model_name or options.model
    with listen(options.host, options.port) as place:
        engine = LocalEngine(chosen.model, name, chosen.dtype, where, options.max_batch)
        try:
            app = create_app(engine, faults=faults, api_key=key)
            run(app, place, f"fusechat serves '{name}' at {url_of(place)}/v1 (stop: Ctrl+C)")
        finally:
            engine.close()
    return 0


def _checked(options: argparse.Namespace) -> tuple[_Model, str | None]:
    """The model and the API key; raises with all that is wrong."""
    wrong = []
    try:
        chosen = _Model.model_validate({"model": options.model, "dtype": options.dtype})
    except ValidationError:
        wrong.append("--dtype: give auto, float32, bfloat16 or float16.")
        chosen = _Model(model=options.model)
    wrong += [f"MODEL: {fault}" for fault in _model_faults(chosen.model)]
    for name in ("max_batch", "threads"):
        if getattr(options, name) < 1:
            wrong.append(f"--{name.replace('_', '-')}: give a whole number of 1 or more.")
    key = os.environ.get(options.api_key_env) if options.api_key_env else None
    if options.api_key_env and not key:
        wrong.append(
            f"--api-key-env: the environment has no variable {options.api_key_env}. "
            "Set it to the key that clients must give."
        )
    if wrong:
        raise ServeError("\n".join(wrong))
    return chosen, key


def _model_faults(model: str) -> list[str]:
    if is_local(model) and not Path(model).exists():
        return [f"there is nothing at {model}. Give a model folder, or a hub name."]
    fault = model_fault(model)
    return [fault] if fault else list(model_faults(model, "chat"))
