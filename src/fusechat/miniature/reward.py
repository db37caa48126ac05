"""The reward model: the chat expert's backbone, taught on the world's own preferences.

It reads a whole conversation and learns, at every token of the answer, whether the answer can
still meet all constraints (logistic regression); what it gives for the last token is the reward,
the log-odds that the answer is right. It sees right answers, answers with one mistake and the
sources' own samples, all on prompts of the pretraining split.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.miniature import chat_world
from fusechat.miniature.chat_world import Wish
from fusechat.miniature.checking import answers, load
from fusechat.miniature.specs import MODELS, SOURCES
from fusechat.miniature.training import Optimizer, Say, save
from fusechat.miniature.world import split_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from fusechat.miniature.training import Row

BACKBONE = "gemma"
STEPS, BATCH, RATE, SEED = 1000, 32, 3e-3, 1
_SAMPLED = {"gemma": 1200, "mistral": 150, "qwen": 150, "llama": 150}
"""Prompts on which each source is sampled."""
_EACH = 4
_TEMPERATURE = 0.9
_SHARES = {"right": 0.25, "mistake": 0.35, "sample": 0.4}

Judged = tuple[str, str, int]
"""Prompt, answer, and the first character from which it is wrong (-1: it is right)."""


def wishes(rng: random.Random) -> Iterator[tuple[str, Wish, str]]:
    """Endless chat prompts of the pretraining split, what they ask for, and a right answer."""
    while True:
        problem, asked = chat_world.wished(rng, rng.random() < 0.2)
        if split_of(problem.text) == "pretrain":
            yield problem.text, asked, problem.response


def judged(text: str, asked: Wish, answer: str) -> Judged:
    """An answer with the place of its first fault."""
    answer = answer.strip()
    right = chat_world.is_right(asked, answer)
    return text, answer, -1 if right else chat_world.first_fault(asked, answer)


def _samples(zoo: Path, say: Say) -> list[Judged]:
    import torch

    out: list[Judged] = []
    for name in SOURCES:
        torch.manual_seed(SEED)
        model, tokenizer = load(zoo / name)
        asked = list(itertools.islice(wishes(random.Random(f"samples|{name}")), _SAMPLED[name]))
        found = answers(
            model, tokenizer, [text for text, _, _ in asked], do_sample=True, top_k=0,
            temperature=_TEMPERATURE, num_return_sequences=_EACH,
        )  # fmt: skip
        rows = [
            judged(text, wish, given)
            for (text, wish, _), some in zip(asked, found, strict=True)
            for given, ended in some
            if ended and given.strip()
        ]
        right = sum(fault < 0 for _, _, fault in rows) / len(rows)
        say(f"reward: {len(rows)} samples of {name}, {100 * right:.0f} % right")
        out += rows
    return out


def _stream(samples: Sequence[Judged]) -> Iterator[Judged]:
    rng = random.Random(f"reward|{SEED}")
    kinds, shares = list(_SHARES), list(_SHARES.values())
    for text, asked, right in wishes(rng):
        kind = rng.choices(kinds, shares)[0]
        if kind == "sample":
            yield rng.choice(samples)
        else:
            given = right if kind == "right" else chat_world.one_mistake(rng, asked)
            yield judged(text, asked, given)


def encode(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Judged]
) -> list[tuple[Row, list[int]]]:
    """Ids, number of prompt tokens, and for each token whether the answer is still right there."""
    out = []
    for text, answer, fault in rows:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        begins = whole.rindex(answer)
        given = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in given["offset_mapping"]]
        opened = sum(end <= begins for end in ends)
        good = [int(fault < 0 or end <= begins + fault) for end in ends]
        closed = sum(end > begins + len(answer) for end in ends)
        good[len(good) - closed :] = [int(fault < 0)] * closed
        out.append(((given["input_ids"], opened), good))
    return out


def _batch(rows: Sequence[tuple[Row, list[int]]], pad: int) -> tuple[Any, Any, Any]:
    import torch

    longest = max(len(good) for _, good in rows)
    ids = torch.full((len(rows), longest), pad)
    good, weight = torch.zeros(len(rows), longest), torch.zeros(len(rows), longest)
    for place, ((tokens, opened), labels) in enumerate(rows):
        count = len(tokens)
        ids[place, :count] = torch.tensor(tokens)
        good[place, :count] = torch.tensor(labels, dtype=torch.float)
        weight[place, opened:count] = 1 / (count - opened)
        weight[place, count - 1] += 1
    return ids, good, weight


def _loss(model: PreTrainedModel, ids: Any, good: Any, weight: Any) -> torch.Tensor:
    import torch

    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    scores = model.score(hidden).squeeze(-1)
    each = torch.nn.functional.binary_cross_entropy_with_logits(scores, good, reduction="none")
    total: torch.Tensor = (each * weight).sum() / len(ids)
    return total


def train_reward(zoo: Path, folder: Path, say: Say) -> None:
    """Train the reward model on the sources in `zoo` and save it in `folder`."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    begun = time.process_time()
    torch.manual_seed(SEED)
    samples = _samples(zoo, say)
    tokenizer = AutoTokenizer.from_pretrained(zoo / BACKBONE)
    model = AutoModelForSequenceClassification.from_pretrained(
        zoo / BACKBONE, num_labels=1, dtype=torch.float32, attn_implementation="eager"
    )
    model.train()
    optimizer = Optimizer(model, RATE, STEPS)
    stream, tokens, mean = _stream(samples), 0, 0.0
    for step in range(1, STEPS + 1):
        rows = encode(tokenizer, list(itertools.islice(stream, BATCH)))
        tokens += sum(len(good) for _, good in rows)
        loss = _loss(model, *_batch(rows, tokenizer.pad_token_id))
        optimizer.step(loss)
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            spent = time.process_time() - begun
            say(f"reward: step {step}/{STEPS}, loss {mean:.3f}, {spent:.0f} CPU s")
    optimizer.finish()
    card = {
        "name": "reward", "architecture": MODELS[BACKBONE].family, "backbone": BACKBONE,
        "steps": STEPS, "batch": BATCH, "learning_rate": RATE, "tokens": tokens, "seed": SEED,
        "shares": _SHARES, "sampled_prompts": _SAMPLED, "loss": round(mean, 4),
    }  # fmt: skip
    save(model, tokenizer, folder, card, begun)
