"""Tiny random models of the four families of FuseChat-3.0, each with a tokenizer and a template.

`tiny_model(folder, "gemma2")` writes a causal language model of some ten thousand weights,
`tiny_reward_model(folder, "llama")` a sequence classifier with one label. The templates say what
the published ones say: Llama-3.1 prints a date, Qwen-2.5 has a default system prompt, Gemma-2
refuses a system role, Mistral writes a space before the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Family = Literal["llama", "qwen2", "gemma2", "mistral"]
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gemma2", "mistral")

_CORPUS = [
    "What is the sum of two numbers? The answer is the number that you get when you add them.",
    "Tom has 12 apples and gives 5 to Ann. How many apples are left? 12 - 5 = 7, so 7 are left.",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n",
    "You are a helpful assistant. The user asks a question and the assistant answers it.",
    "Once upon a time there was a model that wanted to be as good as four others together.",
] * 4


@dataclass(frozen=True)
class _Family:
    bos: str | None
    eos: str
    end: str
    pad: str | None
    others: tuple[str, ...]
    adds_bos: bool
    template: str


_TEMPLATES: dict[Family, _Family] = {
    "llama": _Family(
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        end="<|eot_id|>",
        pad=None,
        others=("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        adds_bos=True,
        template=(
            "{{- bos_token }}"
            "{%- if not date_string is defined %}"
            "{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
            "{%- set system = messages[0].content|trim if messages[0].role == 'system' else '' %}"
            "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string "
            "+ '\n\n' + system + '<|eot_id|>' }}"
            "{%- for message in messages if message.role != 'system' %}"
            "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' "
            "+ message.content|trim + '<|eot_id|>' }}{%- endfor %}"
            "{%- if add_generation_prompt %}"
            "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
        ),
    ),
    "qwen2": _Family(
        bos=None,
        eos="<|im_end|>",
        end="<|im_end|>",
        pad="<|endoftext|>",
        others=("<|im_start|>",),
        adds_bos=False,
        template=(
            "{%- if messages[0].role != 'system' %}"
            "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
            "{%- for message in messages %}"
            "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
            "{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
        ),
    ),
    "gemma2": _Family(
        bos="<bos>",
        eos="<eos>",
        end="<end_of_turn>",
        pad="<pad>",
        others=("<start_of_turn>",),
        adds_bos=True,
        template=(
            "{{- bos_token }}"
            "{%- if messages[0].role == 'system' %}"
            "{{- raise_exception('System role not supported') }}{%- endif %}"
            "{%- for message in messages %}"
            "{%- set role = 'model' if message.role == 'assistant' else message.role %}"
            "{{- '<start_of_turn>' + role + '\n' + message.content|trim + '<end_of_turn>\n' }}"
            "{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
        ),
    ),
    "mistral": _Family(
        bos="<s>",
        eos="</s>",
        end="</s>",
        pad=None,
        others=("[INST]", "[/INST]"),
        adds_bos=True,
        template=(
            "{{- bos_token }}"
            "{%- set system = '' %}{%- if messages[0].role == 'system' %}"
            "{%- set system = messages[0].content + '\n\n' %}{%- endif %}"
            "{%- for message in messages if message.role != 'system' %}"
            "{%- if message.role == 'user' %}"
            "{{- '[INST] ' + (system if loop.last else '') + message.content + '[/INST]' }}"
            "{%- else %}{{- ' ' + message.content|trim + eos_token }}{%- endif %}{%- endfor %}"
        ),
    ),
}


def tiny_tokenizer(
    family: Family = "llama", template: str | None = None, vocabulary: int = 400
) -> Any:
    """A byte-level BPE tokenizer with the family's control tokens and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = _TEMPLATES[family]
    named = [made.bos, made.eos, made.end, made.pad, *made.others]
    special = list(dict.fromkeys(token for token in named if token))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if made.adds_bos and made.bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{made.bos} $A",
            pair=f"{made.bos} $A $B",
            special_tokens=[(made.bos, core.token_to_id(made.bos))],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=made.bos,
        eos_token=made.eos,
        pad_token=made.pad,
        additional_special_tokens=[t for t in special if t not in (made.bos, made.eos, made.pad)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = made.template if template is None else template
    return tokenizer


def tiny_config(family: Family = "llama", vocabulary: int = 400, **changes: Any) -> Any:
    """A configuration of two layers of width 32; `changes` are fields of the family's own."""
    from transformers import AutoConfig

    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return AutoConfig.for_model(family, **{**sizes, **changes})


def tiny_model(folder: Path, family: Family = "llama", seed: int = 0, **changes: Any) -> Path:
    """Writes a tiny random causal language model with tokenizer to `folder`, and returns it."""
    from transformers import AutoModelForCausalLM

    return _save(folder, family, seed, AutoModelForCausalLM, changes)


def tiny_reward_model(
    folder: Path, family: Family = "llama", seed: int = 0, **changes: Any
) -> Path:
    """Writes a tiny random sequence classifier (one label) with tokenizer to `folder`."""
    from transformers import AutoModelForSequenceClassification

    fields = {"num_labels": 1, **changes}
    return _save(folder, family, seed, AutoModelForSequenceClassification, fields)


def _save(folder: Path, family: Family, seed: int, auto: Any, changes: dict[str, Any]) -> Path:
    import torch

    fields = dict(changes)
    tokenizer = tiny_tokenizer(family, fields.pop("template", None), fields.get("vocabulary", 400))
    tokenizer.save_pretrained(folder)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = tiny_config(family, **{**ids, **fields})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def strip_template(folder: Path) -> Path:
    """Takes the chat template out of a model folder, as base models are published."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"}
    path.write_text(json.dumps(config))
    return folder
