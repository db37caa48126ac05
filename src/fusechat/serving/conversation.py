"""A conversation with one model: what of it fits the context, and how a turn is asked."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from fusechat.serving.contract import Ask, Engine, Job, Piece, Refused

_ANSWER_SHARE = 4
"""At least this part of the context (1/4) is kept for an answer before old turns are left out."""

Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 0.7
    """0 takes the likeliest token each time."""
    top_p: float = 0.95
    max_new_tokens: int = 1024
    seed: int | None = None
    """Of the first answer; the next has the next number. None: drawn anew each time."""


@dataclass(frozen=True)
class Fit:
    """What of a conversation a model is shown."""

    dropped: int
    """Messages at its beginning (after the system message) that are left out."""
    ids: list[int]
    room: int
    """Most tokens of the answer."""


def fitted(engine: Engine, system: str | None, turns: Sequence[Message], most: int) -> Fit:
    """As much of `turns` as fits, the oldest question and answer left out first.

    `turns` begins and ends with the user's; an answer of `most` tokens is wanted. What is shown
    leaves room for it, or for a quarter of the context, whichever is less. Raises `Refused` where
    the last message alone fills the context, or the chat template refuses the conversation.
    """
    head = [{"role": "system", "content": system}] if system else []
    dropped = 0
    while True:
        ids = engine.encode([*head, *turns[dropped:]])
        if engine.context is None:
            return Fit(dropped, ids, most)
        wanted = min(most, engine.context // _ANSWER_SHARE)
        if len(ids) + wanted <= engine.context or dropped + 2 >= len(turns):
            break
        dropped += 2
    if len(ids) >= engine.context:
        raise Refused(
            400,
            f"the message has {len(ids)} tokens, and the context of {engine.name} is "
            f"{engine.context}. Say it in fewer words.",
            "messages",
        )
    return Fit(dropped, ids, min(most, engine.context - len(ids)))


def note_of_dropped(count: int, context: int | None) -> str:
    """What the user is told where `count` messages were left out."""
    asked = count // 2
    turns = "turn is" if asked == 1 else f"{asked} turns are"
    return (
        f"the conversation no longer fits the context of {context} tokens: the oldest {turns} "
        "left out of what the model sees"
    )


@dataclass
class Conversation:
    """The turns with one engine, and the answer under way."""

    engine: Engine
    sampling: Sampling = Sampling()
    system: str | None = None
    turns: list[Message] = field(default_factory=list)
    """Questions and answers in turn; an answer that was stopped stands as far as it came."""
    asked: int = 0

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()
        self.asked = 0

    def ask(self, text: str) -> Turn:
        """Begin a turn; raises `Refused` where it cannot be asked, and then nothing is kept."""
        question = {"role": "user", "content": text}
        sampling = self.sampling
        fit = fitted(self.engine, self.system, [*self.turns, question], sampling.max_new_tokens)
        seed = None if sampling.seed is None else sampling.seed + self.asked
        self.asked += 1
        return Turn(self, question, fit, _ask(self.engine, sampling, fit.room, seed))


def _ask(engine: Engine, sampling: Sampling, room: int, seed: int | None) -> Ask:
    defaults: Mapping[str, Any] = engine.defaults
    top_k = defaults.get("top_k") or 0
    return Ask(
        messages=(),
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=top_k if top_k > 0 else None,
        repetition_penalty=defaults.get("repetition_penalty", 1.0),
        max_tokens=room,
        stream=True,
    )


@dataclass
class Turn:
    """One question and its answer, as it is written."""

    conversation: Conversation
    question: Message
    fit: Fit
    asked: Ask
    text: str = ""
    finish: str | None = None
    """`stop` or `length`, or `stopped` by the user; None while it is written."""
    tokens: int = 0

    def pieces(self) -> Generator[str, None, None]:
        """The answer's text as it comes, without white space before it.

        Leaving early stops the answer. What was said is kept in the conversation either way;
        where nothing was, the question is forgotten, too. Raises what the engine says went wrong.
        """
        from fusechat.serving.engine import seeds_of

        said: SimpleQueue[Piece | Exception] = SimpleQueue()
        job = Job(self.asked, self.fit.ids, seeds_of(self.asked), said.put)
        self.conversation.engine.submit(job)
        try:
            while self.finish is None:
                piece = said.get()
                if isinstance(piece, Exception):
                    raise piece
                text = piece.text if self.text else piece.text.lstrip()
                self.text, self.tokens = self.text + text, self.tokens + piece.tokens
                self.finish = piece.finish
                if text:
                    yield text
        finally:
            job.cancelled = True
            self.finish = self.finish or "stopped"
            self._keep()

    def _keep(self) -> None:
        if answer := self.text.strip():
            kept = self.conversation.turns
            kept[: self.fit.dropped] = []
            kept += [self.question, {"role": "assistant", "content": answer}]
