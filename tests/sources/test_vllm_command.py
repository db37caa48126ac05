"""The command line of `vllm serve`: against vLLM's own options, and what belongs in a key."""

from __future__ import annotations

import pytest

from fusechat.errors import PartError
from fusechat.parts import Where
from fusechat.settings import settings_key
from fusechat.sources._vllm_command import OWN, ROWS, EngineSettings, serve_command

DOCUMENTED = set(
    """
    all2all-backend api-key async-scheduling attention-backend block-size chat-template
    chat-template-content-format code-revision compilation-config config-format cpu-offload-gb
    cudagraph-capture-sizes data-parallel-address data-parallel-backend data-parallel-rank
    data-parallel-rpc-port data-parallel-size data-parallel-size-local
    default-chat-template-kwargs disable-custom-all-reduce disable-log-stats
    disable-sliding-window disable-uvicorn-access-log distributed-executor-backend download-dir
    dtype enable-chunked-prefill enable-expert-parallel enable-lora enable-prefix-caching
    enforce-eager generation-config gpu-memory-utilization hf-config-path hf-overrides hf-token
    host kv-cache-dtype kv-cache-memory-bytes load-format logits-processors logprobs-mode
    lora-modules max-logprobs max-model-len max-num-batched-tokens max-num-seqs model model-impl
    num-gpu-blocks-override override-generation-config pipeline-parallel-size port quantization
    quantization-config reasoning-parser revision safetensors-load-strategy scheduling-policy seed
    served-model-name shutdown-timeout skip-tokenizer-init speculative-config tensor-parallel-size
    tokenizer tokenizer-mode tokenizer-revision trust-remote-code uds uvicorn-log-level
""".split()  # noqa: SIM905 - read by people
)
"""Of vLLM 0.33.0: vllm/engine/arg_utils.py and vllm/entrypoints/common/cli_args.py; not all."""
SWITCHES = {"enable-prefix-caching", "disable-uvicorn-access-log", "enforce-eager"}


def test_every_option_that_we_give_is_one_of_vllm() -> None:
    full = EngineSettings(
        dtype="bfloat16", quantization="fp8", max_model_len=8192, revision="abc",
        generation_config="auto", options={"kv_cache_dtype": "fp8"}, tensor_parallel_size=4,
        pipeline_parallel_size=2, data_parallel_size=2, gpu_memory_utilization=0.92,
        engine={"max_num_seqs": 512, "enable_prefix_caching": True}, port=8123,
    )  # fmt: skip
    words = serve_command(full, Where(), "org/model", "org/model", 8123)
    assert words[:3] == ["vllm", "serve", "org/model"]
    given = [word[2:] for word in words if word.startswith("--")]
    assert set(given) <= set(DOCUMENTED)
    assert len(set(given)) == len(given)
    for name in set(given) - SWITCHES:
        assert not words[words.index(f"--{name}") + 1].startswith("--")
    said = " ".join(words)
    for part in ("--host 127.0.0.1 --port 8123 --served-model-name org/model",
                 "--tensor-parallel-size 4", "--max-num-seqs 512", "--quantization fp8",
                 "--kv-cache-dtype fp8", "--gpu-memory-utilization 0.92"):  # fmt: skip
        assert part in said
    assert full.gpus(Where()) == 16


def test_what_is_guarded_by_name_is_an_option_of_vllm() -> None:
    """A misspelt name would guard nothing. Two rope options are of older versions."""
    known = {name.replace("-", "_") for name in DOCUMENTED} | {"model_tag"}
    assert (ROWS | OWN) - {"rope_scaling", "rope_theta"} <= known


def test_the_cluster_file_wins_and_booleans_are_switches() -> None:
    where = Where(
        engine={"tensor-parallel-size": 8, "enable_prefix_caching": False, "enforce_eager": True},
        command=("/opt/vllm/bin/vllm",),
    )
    settings = EngineSettings(tensor_parallel_size=2, command=("elsewhere",))
    words = serve_command(settings, where, "m", "m", 1)
    assert words[0] == "/opt/vllm/bin/vllm"
    assert words.count("--tensor-parallel-size") == 1
    assert words[words.index("--tensor-parallel-size") + 1] == "8"
    assert "--no-enable-prefix-caching" in words
    assert "--enforce-eager" in words
    assert settings.gpus(where) == 8


def test_an_option_that_changes_rows_is_refused_among_those_of_speed() -> None:
    wrong = EngineSettings(engine={"kv-cache-dtype": "fp8", "dtype": "half", "port": 1})
    told = dict(zip(("kv", "dtype", "port"), wrong.engine_faults(), strict=True))
    assert "under 'options'" in told["kv"][1]
    assert "as a setting of the source" in told["dtype"][1]
    assert "Leave it out" in told["port"][1]
    with pytest.raises(PartError, match="cluster file's engine: 'kv_cache_dtype' may change"):
        serve_command(EngineSettings(), Where(engine={"kv_cache_dtype": "fp8"}), "m", "m", 1)


def test_only_what_changes_rows_is_in_the_key() -> None:
    fast = EngineSettings(
        tensor_parallel_size=8, pipeline_parallel_size=2, data_parallel_size=2, port=1,
        gpu_memory_utilization=0.5, engine={"max_num_seqs": 1}, command=("x",), restarts=9,
        start_timeout=1.0,
    )  # fmt: skip
    assert settings_key(fast) == settings_key(EngineSettings()) == {}
    rows = EngineSettings(dtype="half", max_model_len=9, options={"kv_cache_dtype": "fp8"})
    assert set(settings_key(rows)) == {"dtype", "max_model_len", "options"}
