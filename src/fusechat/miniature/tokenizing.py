"""Tokenizers of the zoo: byte-level BPE, with a vocabulary and a digit split of each one's own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from fusechat.miniature.specs import ModelSpec, examples
from fusechat.miniature.templates import TEMPLATES
from fusechat.miniature.world import DOMAINS, problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_TEXTS = 4000
_EVEN = 700
MAX_POSITIONS = 256


def make_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerFast:
    """A tokenizer trained on 4000 of the model's own examples and 700 full problems a domain."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template = TEMPLATES[spec.family]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"\p{{N}}{{1,{spec.digits}}}|\p{{Han}}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    own = itertools.islice(examples(spec.mixtures[0], f"tokenizer|{spec.seed}"), _TEXTS)
    even = (p for d in DOMAINS for p in itertools.islice(problems(d, "pretrain", "tokens"), _EVEN))
    texts = [text for p in itertools.chain(own, even) for text in (p.text, p.response)]
    special = ["<pad>", *([template.bos] if template.bos else []), template.eos, *template.others]
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    frame = [*template.words, "Question: ", "\nAnswer: "]
    inner.train_from_iterator([*texts, *frame * _TEXTS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token=template.eos,
        bos_token=template.bos,
        additional_special_tokens=list(template.others),
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template.jinja
    return tokenizer
