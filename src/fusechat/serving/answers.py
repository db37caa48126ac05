"""The JSON of an answer, whole or in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusechat.serving.contract import Ask, Piece, TokenChance


class Form:
    """Gathers the pieces of all choices of one answer."""

    def __init__(self, ask: Ask, prompt_tokens: int, head: Mapping[str, Any]) -> None:
        """`head`: the fields `id`, `created` and `model` of every object."""
        self._ask, self._prompt_tokens, self._head = ask, prompt_tokens, dict(head)
        self._pieces: list[list[Piece]] = [[] for _ in range(ask.n)]
        self.tokens = 0
        """Response tokens so far."""
        self.ended = 0
        """Choices that have ended."""

    def add(self, piece: Piece) -> None:
        """Keep a piece."""
        self.tokens += piece.tokens
        self.ended += piece.finish is not None
        kept = self._pieces[piece.index]
        if not self._ask.stream:
            kept.append(piece)

    def whole(self) -> dict[str, Any]:
        """The object `chat.completion` of all pieces."""
        choices = [self._choice(index, pieces) for index, pieces in enumerate(self._pieces)]
        return {**self._object("chat.completion"), "choices": choices, "usage": self._usage()}

    def begin(self) -> Iterator[dict[str, Any]]:
        """The first chunk of each choice, which says whose turn it is."""
        for index in range(self._ask.n):
            delta = {"role": "assistant", "content": ""}
            yield self._chunk(_choice(index, delta=delta, logprobs=None, finish_reason=None))

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """The chunk of one piece."""
        choice = _choice(
            piece.index,
            delta={"content": piece.text},
            logprobs=self._logprobs(piece.chances),
            finish_reason=piece.finish,
        )
        if piece.finish is not None:
            choice["stop_reason"] = piece.stop_reason
        return self._chunk(choice)

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk where usage was asked for."""
        head = self._object("chat.completion.chunk")
        return {**head, "choices": [], "usage": self._usage()}

    def _chunk(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        chunk = {**self._object("chat.completion.chunk"), "choices": [choice]}
        return chunk | {"usage": None} if self._ask.include_usage else chunk

    def _choice(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        chances = [chance for piece in pieces for chance in piece.chances]
        return _choice(
            index,
            message={"role": "assistant", "content": text},
            logprobs=self._logprobs(chances),
            finish_reason=pieces[-1].finish,
            stop_reason=pieces[-1].stop_reason,
        )

    def _logprobs(self, chances: Sequence[TokenChance]) -> dict[str, Any] | None:
        if not self._ask.logprobs:
            return None
        return {"content": [_chance(one) for one in chances]}

    def _object(self, kind: str) -> dict[str, Any]:
        head = self._head
        return {"id": head["id"], "object": kind, **head}

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self._prompt_tokens + self.tokens,
        }


def _choice(index: int, **fields: Any) -> dict[str, Any]:
    return {"index": index, **fields}


def _chance(one: TokenChance) -> dict[str, Any]:
    top = [_spelt(token, logprob) for token, logprob in one.top]
    return {**_spelt(one.token, one.logprob), "top_logprobs": top}


def _spelt(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
