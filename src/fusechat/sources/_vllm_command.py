"""Settings of a vLLM engine, and the command line that they make.

Option names are those of vLLM 0.33 (`vllm serve --help=all`; its `EngineArgs` and
`FrontendArgs`), where an option is a setting's name with dashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from fusechat.errors import PartError
from fusechat.settings import SPEED, Where

OWN = frozenset({"model", "model_tag", "host", "port", "uds", "api_key", "served_model_name"})
"""What the source sets itself."""
ROWS = frozenset({
    "dtype", "quantization", "max_model_len", "revision", "generation_config", "tokenizer",
    "tokenizer_revision", "tokenizer_mode", "code_revision", "seed", "hf_overrides",
    "hf_config_path", "override_generation_config", "chat_template", "default_chat_template_kwargs",
    "chat_template_content_format", "reasoning_parser", "kv_cache_dtype", "logits_processors",
    "logprobs_mode", "max_logprobs", "speculative_config", "lora_modules", "enable_lora",
    "rope_scaling", "rope_theta", "quantization_config", "load_format", "model_impl",
    "disable_sliding_window", "trust_remote_code", "skip_tokenizer_init",
})  # fmt: skip
"""Options that (may) change what is answered: they are settings of the recipe, in the key."""
SETTINGS = frozenset({"dtype", "quantization", "max_model_len", "revision", "generation_config"})
SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


class EngineSettings(BaseModel):
    """What is said to `vllm serve`; the first six decide the rows."""

    dtype: Literal["auto", "bfloat16", "float16", "float32", "half", "float"] = "auto"
    """Number format of the weights; `auto`: as the model's configuration says."""
    quantization: str | None = None
    """Method, such as `fp8` or `awq`; none: as the model's configuration says."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Context in tokens, prompt and answer; none: the model's own, for which the GPUs' memory
    must suffice."""
    revision: str | None = None
    """Branch, tag or commit on the hub. Give it: `main` may be another model tomorrow."""
    generation_config: Literal["vllm", "auto"] = "vllm"
    """`vllm`: what the recipe does not say has vLLM's neutral value. `auto`: the model's
    generation_config.json adds its own (top-k, repetition penalty), which no key then tells."""
    options: dict[str, Any] = {}
    """Other options of `vllm serve` that may change rows: `{kv_cache_dtype: fp8}`."""
    tensor_parallel_size: Annotated[int, SPEED] = Field(default=1, ge=1)
    """GPUs that each hold a slice of every layer."""
    pipeline_parallel_size: Annotated[int, SPEED] = Field(default=1, ge=1)
    data_parallel_size: Annotated[int, SPEED] = Field(default=1, ge=1)
    """Whole copies of the model behind the one port."""
    gpu_memory_utilization: Annotated[float | None, SPEED] = Field(default=None, gt=0, le=1)
    """Share of each GPU's memory; none: vLLM's own."""
    engine: Annotated[dict[str, Any], SPEED] = {}
    """Other options of `vllm serve` that change only speed: `{max_num_seqs: 512}`."""
    command: Annotated[tuple[str, ...], SPEED] = ()
    """The program, such as `[/opt/vllm/bin/vllm]`; none: `vllm` on the PATH."""
    port: Annotated[int | None, SPEED] = Field(default=None, ge=1, le=65535)
    """On 127.0.0.1; none: a free one is looked for."""
    start_timeout: Annotated[float, SPEED] = Field(default=1800.0, gt=0)
    """Seconds until it must be ready; loading a large model takes many minutes."""
    restarts: Annotated[int, SPEED] = Field(default=2, ge=0)
    """How often it is started again after it died."""

    def gpus(self, where: Where) -> int:
        """GPUs that a server holds: the product of the parallel sizes."""
        told = {size: getattr(self, size) for size in SIZES} | _named(self.engine)
        told |= _named(where.engine)
        product = 1
        for size in SIZES:
            product *= int(told[size])
        return product

    def engine_faults(self) -> Iterator[tuple[str, str]]:
        """Options that stand in the wrong place, each with the right one."""
        for name in _named(self.engine):
            if fault := _misplaced(name):
                yield "engine", fault
        for name in _named(self.options):
            if name in OWN:
                yield "options", _own(name)
            elif name in SETTINGS:
                yield "options", f"'{name}' is a setting of the source itself: give it there."

    def program(self, where: Where) -> tuple[str, ...]:
        """The program and its first arguments."""
        return where.command or self.command or ("vllm",)

    def arguments(self, where: Where) -> list[str]:
        """Options of the engine, the cluster file's over the recipe's; raises `PartError`."""
        for name in _named(where.engine):
            if fault := _misplaced(name):
                raise PartError(f"the cluster file's engine: {fault}")
        told: dict[str, Any] = {"generation_config": self.generation_config}
        if self.dtype != "auto":
            told["dtype"] = self.dtype
        for name in ("quantization", "max_model_len", "revision", "gpu_memory_utilization"):
            if getattr(self, name) is not None:
                told[name] = getattr(self, name)
        told |= {size: getattr(self, size) for size in SIZES if getattr(self, size) != 1}
        told |= {"disable_uvicorn_access_log": True}
        told |= _named(self.options) | _named(self.engine) | _named(where.engine)
        return [word for name, value in told.items() for word in _words(name, value)]


def serve_command(
    settings: EngineSettings, where: Where, model: str, name: str, port: int
) -> list[str]:
    """The whole command line."""
    own = ["serve", model, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    return [*settings.program(where), *own, *settings.arguments(where)]


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lstrip("-").replace("-", "_"): value for name, value in options.items()}


def _words(name: str, value: Any) -> list[str]:
    """One option as words: `true` is the bare option, `false` its `--no-` form, none is nothing."""
    option = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [option if value else "--no-" + option[2:]]
    if isinstance(value, dict):
        return [option, json.dumps(value)]
    if isinstance(value, (list, tuple)):
        return [option, *map(str, value)]
    return [option, str(value)]


def _own(name: str) -> str:
    return f"'{name}' is set by the source itself. Leave it out."


def _misplaced(name: str) -> str | None:
    if name in OWN:
        return _own(name)
    if name in ROWS:
        place = "as a setting of the source" if name in SETTINGS else "under 'options'"
        return (
            f"'{name}' may change what the model answers, so it belongs to the recipe, {place}; "
            "'engine' is for speed alone."
        )
    return None
