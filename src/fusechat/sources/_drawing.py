"""Drawing tokens from a causal language model, many rows side by side (for `hf` and `serving`).

Needs torch and transformers, so it is imported only where a model is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_FIRST_LOOK = 64
"""How many of the likeliest tokens are looked at first for the nucleus."""
_COMPACT_AT = 7 / 8
"""Share of unfinished rows at which finished ones leave the batch."""


@dataclass(frozen=True)
class Warp:
    """From logits to the distribution that is drawn from, in the order of vLLM (and, without the
    penalties on what was said, of transformers): penalties, temperature, top-k, top-p. Tokens that
    tie at an edge are all kept."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the answer has."""
    frequency_penalty: float = 0.0
    """Taken from the logits of a token as often as the answer has it."""

    @property
    def counts(self) -> bool:
        """Whether it matters how often the answer has each token."""
        return bool(self.presence_penalty or self.frequency_penalty)

    def pick(
        self,
        logits: torch.Tensor,
        seen: torch.Tensor | None,
        uniform: torch.Tensor,
        said: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One token per row `[rows]`; `logits` `[rows, vocabulary]` in float32.

        `seen` `[rows, vocabulary]` marks the tokens that the repetition penalty meets; `said`, of
        the same shape, counts each token of the answer; `uniform` `[rows]`, float64 in [0, 1), is
        looked up in each row's cumulative distribution.
        """
        if self.temperature == 0:
            return self._penalised(logits, seen, said).argmax(-1)
        sums = self.probabilities(logits, seen, said).double().cumsum(-1)
        total = sums[:, -1:]
        below = total.nextafter(total.new_zeros(()))
        sought = (uniform[:, None] * total).minimum(below)
        return torch.searchsorted(sums, sought, right=True)[:, 0]

    def probabilities(
        self, logits: torch.Tensor, seen: torch.Tensor | None, said: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The distribution `[rows, vocabulary]`, up to a factor per row; dropped tokens have 0."""
        odds = (self._penalised(logits, seen, said) / self.temperature).softmax(-1)
        if self.top_k is not None and self.top_k < odds.shape[-1]:
            edge = odds.topk(self.top_k).values[:, -1:]
            odds = odds.where(odds >= edge, 0)
            odds = odds / odds.sum(-1, keepdim=True)
        return odds if self.top_p >= 1 else odds.where(odds >= _nucleus_edge(odds, self.top_p), 0)

    def _penalised(
        self, logits: torch.Tensor, seen: torch.Tensor | None, said: torch.Tensor | None
    ) -> torch.Tensor:
        if seen is not None and self.repetition_penalty != 1:
            penalty = self.repetition_penalty
            logits = logits.where(~seen, (logits / penalty).where(logits > 0, logits * penalty))
        if said is not None and self.counts:
            logits = logits - self.frequency_penalty * said - self.presence_penalty * (said > 0)
        return logits


def _nucleus_edge(odds: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probability of the least likely token of each row's nucleus `[rows, 1]`.

    Sorting a whole vocabulary is slow and a nucleus is mostly small, so the likeliest few are
    looked at first, and more of them for the rows whose edge is not among those.
    """
    edges = odds.new_empty(len(odds), 1)
    rows, width = torch.arange(len(odds), device=odds.device), _FIRST_LOOK
    while len(rows):
        values = odds[rows].topk(min(width, odds.shape[-1])).values
        inside = values.cumsum(-1) - values < top_p
        edges[rows] = values.where(inside, 2).amin(-1, keepdim=True)
        settled = (values[:, -1:] < edges[rows])[:, 0]
        rows = rows[~settled] if width < odds.shape[-1] else rows[:0]
        width *= 8
    return edges


def streams(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """Uniform numbers `[rows, steps]` in [0, 1), each row from its own counter-based stream.

    A longer stream of the same seed begins with the shorter one.
    """
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer that writes into spare room instead of copying all it has at every token.

    `keys` and `values` are views `[rows, heads, tokens, width]` of a larger store.
    """

    def __init__(self) -> None:
        super().__init__()
        self._store: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the new tokens' states, and give all states so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._store = [key_states[..., :0, :], value_states[..., :0, :]]
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._store[0].shape[-2]:
            spare = end + max(32, end // 2) - self._store[0].shape[-2]
            self._store = [pad(store, (0, 0, 0, spare)) for store in self._store]
        for store, new in zip(self._store, (key_states, value_states), strict=True):
            store[..., start:end, :] = new
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        length = self.get_seq_length()
        self._store = [store.index_select(0, indices) for store in self._store]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (store[..., :length, :] for store in self._store)


def _roomy_cache(config: Any) -> DynamicCache:
    """The model's cache with roomy attention layers.

    Layers with a sliding window keep all states, which the model masks; other kinds of layer
    (linear attention) stay as they are.
    """
    cache = DynamicCache(config=config)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [_RoomyLayer() if type(layer) in plain else layer for layer in cache.layers]
    return cache


Watch = Callable[[list[int], list[int], list[float], torch.Tensor], Sequence[bool]]
"""Sees each drawn token: numbers of the live rows, their tokens, log-probabilities and logits
`[live, vocabulary]` (before temperature); says of each row whether it ends here."""


class Batch:
    """Rows under way: the key-value cache, what each row attends to, and its next logits."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], warp: Warp) -> None:
        """Run the different prompts once, left-padded; every row starts from its prompt's state."""
        places: dict[tuple[int, ...], int] = {}
        owners = [places.setdefault(tuple(ids), len(places)) for ids in prompts]
        self._model, self._warp = model, warp
        self._cache = _roomy_cache(model.config)
        width = max(map(len, places))
        ids = self._long([[0] * (width - len(p)) + list(p) for p in places])
        self._mask = self._long([[0] * (width - len(p)) + [1] * len(p) for p in places])
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._logits = self._forward(ids, positions, logits_to_keep=1)
        self._seen: torch.Tensor | None = None
        if warp.repetition_penalty != 1:
            counts = torch.zeros_like(self._logits, dtype=torch.int64)
            self._seen = counts.scatter_add(1, ids, self._mask) > 0
        self._said: torch.Tensor | None = None
        if warp.counts:
            self._said = torch.zeros_like(self._logits, dtype=torch.int32)
        self._select(self._long(owners))

    def likeliest(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The likeliest next tokens `[rows, count]`, the likeliest first, and their
        log-probabilities in nats under the model itself: before penalty and temperature."""
        count = min(count, self._logits.shape[-1])
        values, ids = self._logits.topk(count)
        return ids, (values.float() - self._logits.float().logsumexp(-1, keepdim=True))

    def run(
        self,
        uniforms: torch.Tensor,
        rooms: Sequence[int],
        ends: Sequence[int],
        watch: Watch | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drawn tokens `[rows, steps]`, -1 after a row's end, and log-probabilities `[rows]`.

        `uniforms` `[rows, steps]`; a row ends with one of `ends`, after its `rooms` tokens, or
        where `watch` says so.
        """
        device = self._mask.device
        uniforms, room, stops = uniforms.to(device), self._long(rooms), self._long(ends)
        drawn = torch.full(uniforms.shape, -1, dtype=torch.int64, device=device)
        logprobs = torch.zeros(len(uniforms), dtype=torch.float64, device=device)
        rows = torch.arange(len(uniforms), device=device)
        going = torch.ones_like(rows, dtype=torch.bool)
        for step in range(uniforms.shape[1]):
            logits = self._logits.float()
            tokens = self._warp.pick(logits, self._seen, uniforms[rows, step], self._said)
            chances = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
            live = rows[going]
            drawn[live, step] = tokens[going]
            logprobs[live] += chances[going].double()
            if watch is not None:
                seen = (live.tolist(), tokens[going].tolist(), chances[going].tolist())
                over = torch.tensor(
                    watch(*seen, logits if going.all() else logits[going]), device=device
                )
                going = going.masked_scatter(going, ~over)
            going = going & ~torch.isin(tokens, stops) & (room[rows] > step + 1)
            left = int(going.sum())
            if left == 0:
                break
            if left <= _COMPACT_AT * len(rows):
                self._select(going.nonzero()[:, 0])
                rows, tokens, going = rows[going], tokens[going], going[going]
            self._feed(tokens)
        return drawn, logprobs

    def _select(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self._logits = self._mask[rows], self._logits[rows]
        self._seen = None if self._seen is None else self._seen[rows]
        self._said = None if self._said is None else self._said[rows]

    def _feed(self, tokens: torch.Tensor) -> None:
        """Give every row its token, and compute the logits of the next."""
        if self._seen is not None:
            self._seen.scatter_(1, tokens[:, None], value=True)
        if self._said is not None:
            once = torch.ones_like(tokens, dtype=torch.int32)
            self._said.scatter_add_(1, tokens[:, None], once[:, None])
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = pad(self._mask, (0, 1), value=1)
        self._logits = self._forward(tokens[:, None], positions)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, **extra: Any) -> torch.Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **extra,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _long(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._model.device)
