"""Whether training teaches the token that ends an answer: what a template must do for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.chat import answer_end, template_text, turn_end_id
from fusechat.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANSWER = "fusechatanswer"
_TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]


def refuse_untaught_end(tokenizer: PreTrainedTokenizerBase, base: Path) -> None:
    """Raise `TrainingError` where a model trained by this template would not learn to stop.

    `base`: folder of the model to train.
    """
    fault = turn_end_fault(tokenizer, _embeddings(base))
    if fault:
        raise TrainingError(f"the chat template of {base}: {fault} Nothing was trained.")


def turn_end_fault(tokenizer: PreTrainedTokenizerBase, embeddings: int | None) -> str | None:
    """Why the end of a turn is not in the loss, with the mend; None where it is.

    `embeddings`: ids that the model has; None where that is not known.
    """
    if _ANSWER not in template_text(tokenizer, _TURNS):
        return (
            "it leaves the assistant's last turn out, so that no response would be in the loss. "
            "Put that model's own template into its chat_template.jinja."
        )
    written = answer_end(tokenizer).strip()
    first = tokenizer(written, add_special_tokens=False)["input_ids"][:1] if written else []
    end = turn_end_id(tokenizer)
    if first and (first[0] != end or end == tokenizer.unk_token_id):
        spelt = tokenizer.convert_ids_to_tokens(end)
        return (
            f"it ends a turn with {written!r}, which does not begin with a token of its own in the "
            f"tokenizer; the loss would end with {spelt} instead, and the model would learn to "
            "stop otherwise than its template says. Write the tokenizer's own end of turn into "
            "the template; or add that text as a special token "
            "(tokenizer.add_special_tokens) and model.resize_token_embeddings(len(tokenizer))."
        )
    if embeddings is not None and end >= embeddings:
        return (
            f"the token {tokenizer.convert_ids_to_tokens(end)} that ends a turn has id {end}, and "
            f"the model has embeddings for {embeddings} ids. "
            "Resize them: model.resize_token_embeddings(len(tokenizer))."
        )
    return None


def _embeddings(base: Path) -> int | None:
    """Ids that the model in a folder has embeddings for; None where its configuration is silent."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(base))
    except (OSError, ValueError, KeyError):  # loading the model says what is wrong with it
        return None
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None
