"""Tokenizers for the doctor's tests: Llama 3's real vocabulary, and published templates."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fusechat.doctor.findings import Finding

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>",
           *(f"<|reserved_special_token_{n}|>" for n in range(4)),
           "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>",
           "<|eot_id|>")  # fmt: skip


def llama3_tokenizer(vocabulary: Path, template: str) -> Any:
    """Llama 3's tokenizer from its published ranks, with its first ten control tokens."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            lines = Path(tiktoken_url).read_bytes().splitlines()
            pairs = (line.split() for line in lines if line)
            return {base64.b64decode(token): int(rank) for token, rank in pairs}

    core = Converter(vocab_file=str(vocabulary), extra_special_tokens=list(SPECIAL)).converted()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[-1], chat_template=template,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def published(folder: Path, name: str, stripped: bool = True) -> str:
    """A published template; `stripped` as its publisher says it is to be used."""
    text = (folder / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    return text.replace("    ", "").replace("\n", "") if stripped else text


def checks(findings: Iterable[Finding]) -> set[str]:
    """`fault:bos-doubled` and so on."""
    return {f"{one.level}:{one.check}" for one in findings}
