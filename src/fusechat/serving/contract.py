"""What a chat completion request may ask, and what an engine is asked: no HTTP, no torch.

The contract is vLLM's of `POST /v1/chat/completions`. Where vLLM passes over a field that it does
not know, this server refuses it, so that nobody takes an ignored setting for one that was used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

MOST_CHOICES = 16_384
MOST_TOP_LOGPROBS = 20
MOST_STOPS = 64
_SEEDS = (-(2**63), 2**63 - 1)
_GREEDY = 1e-5
"""vLLM takes temperatures below this for greedy decoding."""
_ROLES = ("system", "user", "assistant")
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "length_penalty": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "skip_special_tokens": (None, True),
    "include_stop_str_in_output": (None, False),
    "use_beam_search": (None, False),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "logit_bias": (None, {}),
    "stop_token_ids": (None, []),
    "prompt_logprobs": (None,),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "reasoning_effort": (None,),
}
"""Fields that are known but not supported, with the values that change nothing."""
_PASSED_OVER = ("user", "metadata", "store", "service_tier", "request_id", "priority")
"""Fields that cannot change an answer."""
_HANDLED = (
    "model", "messages", "n", "seed", "temperature", "top_p", "top_k", "repetition_penalty",
    "presence_penalty", "frequency_penalty", "max_tokens", "max_completion_tokens", "stop",
    "ignore_eos", "logprobs", "top_logprobs", "stream", "stream_options", "continue_final_message",
    "add_generation_prompt",
)  # fmt: skip


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that gets an error instead of an answer: status, message, and the field."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's form, with vLLM's type names."""
        kinds = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}
        kinds |= {429: "RateLimitError", 503: "ServiceUnavailableError"}
        kind = kinds.get(self.status, "InternalServerError")
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.status}
        return {"error": fields}


@dataclass(frozen=True)
class Ask:
    """One valid request."""

    messages: tuple[dict[str, str], ...]
    n: int = 1
    seed: int | None = None
    """Of choice 0; choice i has `seed + i`. None: drawn by the server."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int | None = None
    """Most tokens of each choice; None: what the context leaves."""
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    stream: bool = False
    include_usage: bool = False
    goes_on: bool = False
    """Whether the last message is the beginning of the answer, and not a turn that is over."""


@dataclass(frozen=True)
class TokenChance:
    """One drawn token with its log-probability in nats, and the likeliest ones at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What is new of one choice. The last piece of a choice has its `finish`."""

    index: int
    text: str
    chances: tuple[TokenChance, ...] = ()
    tokens: int = 0
    """Tokens of this piece, the end-of-turn token included."""
    finish: Literal["stop", "length"] | None = None
    stop_reason: str | None = None
    """The stop string that ended it."""


@dataclass
class Job:
    """One request at an engine: `say` is called from the engine's thread with every piece.

    A request that does not stream gets each choice in one piece. An exception said in place of a
    piece ends the job.
    """

    ask: Ask
    ids: Sequence[int]
    seeds: Sequence[int]
    """One for each choice; its stream of random numbers."""
    say: Callable[[Piece | Exception], None]
    cancelled: bool = False
    """Set where the client is gone: its rows end at the next token."""


class Engine(Protocol):
    """Whatever computes the answers of one model."""

    name: str
    context: int | None
    """Most tokens of a prompt and its answer; None where the model does not say."""
    defaults: Mapping[str, Any]
    """Sampling settings of requests that do not say (the model's generation_config)."""

    def encode(self, messages: Sequence[Mapping[str, str]], goes_on: bool = False) -> list[int]:
        """The ids of a conversation, up to the end of its last message where that `goes_on`; raises
        `Refused` where the chat template refuses it."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""
        ...


@dataclass
class _Reader:
    """Reads a request's fields, and collects all that is wrong with them."""

    body: Mapping[str, Any]
    defaults: Mapping[str, Any]
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def number(self, name: str, low: float, high: float, otherwise: float, open_: bool) -> float:
        """A number in [low, high], or in (low, high] where `open_`."""
        value = self._given(name, otherwise)
        usable = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = usable and math.isfinite(value) and low <= value <= high
        if not fits or (open_ and value == low):
            edge = f"({low:g}" if open_ else f"[{low:g}"
            top = "inf)" if math.isinf(high) else f"{high:g}]"
            self.fault(name, f"must be a number in {edge}, {top}, got {value!r}")
            return otherwise
        return float(value)

    def count(self, name: str, low: int, high: int, otherwise: Any = None) -> Any:
        """A whole number in [low, high], or None where that is what it is without the field."""
        value = self._given(name, otherwise)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fault(name, f"must be a whole number from {low} to {high}, got {value!r}")
            return otherwise
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._given(name, False)
        if not isinstance(value, bool):
            self.fault(name, f"must be true or false, got {value!r}")
        return value is True

    def fault(self, name: str, message: str) -> None:
        """Remember that a field is wrong."""
        self.wrong.append((name, f"{name} {message}"))

    def _given(self, name: str, otherwise: Any) -> Any:
        value = self.body.get(name)
        return self.defaults.get(name, otherwise) if value is None else value


def read_ask(body: Any, served: str, defaults: Mapping[str, Any] | None = None) -> Ask:
    """The request in a decoded JSON body; raises `Refused` naming all that is wrong with it."""
    if not isinstance(body, Mapping):
        raise Refused(400, "the body must be a JSON object")
    if not isinstance(body.get("model"), str):
        raise Refused(400, "model must be a text: the name of the served model", "model")
    if body["model"] != served:
        raise Refused(404, f"The model `{body['model']}` does not exist.", "model")
    reader = _Reader(body, defaults or {})
    _look_for_unsupported(reader)
    ask = _ask(reader)
    if reader.wrong:
        message = "; ".join(text for _, text in reader.wrong)
        raise Refused(400, message, reader.wrong[0][0])
    return ask


def _ask(reader: _Reader) -> Ask:
    endless = math.inf
    n, temperature = (
        reader.count("n", 1, MOST_CHOICES, 1),
        reader.number("temperature", 0, endless, 1.0, open_=False),
    )
    if temperature < _GREEDY:
        temperature = 0.0
        if n > 1:
            reader.fault("n", f"must be 1 when using greedy sampling, got {n}")
    top_k = reader.count("top_k", -1, 2**31 - 1, 0)
    logprobs, top = reader.flag("logprobs"), reader.count("top_logprobs", 0, MOST_TOP_LOGPROBS, 0)
    if top and not logprobs:
        reader.fault("top_logprobs", "needs logprobs: true")
    stream = reader.flag("stream")
    limits = [reader.count(name, 1, 2**31 - 1) for name in ("max_completion_tokens", "max_tokens")]
    messages = _messages(reader)
    return Ask(
        messages=messages,
        goes_on=_goes_on(reader, messages),
        n=n,
        seed=reader.count("seed", *_SEEDS),
        temperature=temperature,
        top_p=reader.number("top_p", 0, 1, 1.0, open_=True),
        top_k=top_k if top_k > 0 else None,
        repetition_penalty=reader.number("repetition_penalty", 0, endless, 1.0, open_=True),
        presence_penalty=reader.number("presence_penalty", -2, 2, 0.0, open_=False),
        frequency_penalty=reader.number("frequency_penalty", -2, 2, 0.0, open_=False),
        max_tokens=limits[0] if limits[0] is not None else limits[1],
        stop=_stops(reader),
        ignore_eos=reader.flag("ignore_eos"),
        logprobs=logprobs,
        top_logprobs=top,
        stream=stream,
        include_usage=_include_usage(reader, stream),
    )


def _look_for_unsupported(reader: _Reader) -> None:
    for name, value in reader.body.items():
        if name in _NEUTRAL:
            if value not in _NEUTRAL[name]:
                reader.fault(name, f"is not supported by this server, got {value!r}")
        elif name not in _HANDLED and name not in _PASSED_OVER:
            reader.fault(name, "is no field that this server knows")


def _messages(reader: _Reader) -> tuple[dict[str, str], ...]:
    given = reader.body.get("messages")
    if not isinstance(given, list) or not given:
        reader.fault("messages", "must be a list with at least one message")
        return ()
    read = []
    for place, message in enumerate(given):
        fault = _message_fault(message)
        if fault:
            reader.fault(f"messages[{place}]", fault)
        else:
            read.append({"role": message["role"], "content": _content(message["content"])})
    return tuple(read)


def _goes_on(reader: _Reader, messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether the last message is to be continued; both fields have to say so, as in vLLM."""
    goes_on = reader.flag("continue_final_message")
    opens = reader.body.get("add_generation_prompt")
    if opens is not None and not isinstance(opens, bool):
        reader.fault("add_generation_prompt", f"must be true or false, got {opens!r}")
    elif goes_on and opens is not False:
        reader.fault("continue_final_message", "needs add_generation_prompt: false")
    elif opens is False and not goes_on:
        reader.fault("add_generation_prompt", "may be false with continue_final_message only")
    elif goes_on and messages and messages[-1]["role"] != "assistant":
        reader.fault("continue_final_message", "needs a last message of the assistant")
    return goes_on


def _message_fault(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return "must be an object with role and content"
    if message.get("role") not in _ROLES:
        return f"has role {message.get('role')!r}; this server knows {', '.join(_ROLES)}"
    if _content(message.get("content")) is None:
        return "has no content that is a text, or a list of parts of type text"
    others = sorted(set(message) - {"role", "content"})
    return f"has fields that are not supported: {', '.join(others)}" if others else None


def _content(content: Any) -> Any:
    """A message's text; text parts are joined by line breaks, as vLLM does. None: it has none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        for part in content
    ]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else None  # type: ignore[arg-type]


def _stops(reader: _Reader) -> tuple[str, ...]:
    given = reader.body.get("stop")
    listed = [given] if isinstance(given, str) else [] if given is None else given
    usable = isinstance(listed, list) and len(listed) <= MOST_STOPS
    if not usable or not all(isinstance(stop, str) and stop for stop in listed):
        reader.fault("stop", f"must be a text or up to {MOST_STOPS} texts, none empty")
        return ()
    return tuple(listed)


def _include_usage(reader: _Reader, stream: bool) -> bool:
    given = reader.body.get("stream_options")
    if given is None:
        return False
    if not stream:
        reader.fault("stream_options", "is only allowed with stream: true")
    elif not isinstance(given, Mapping) or set(given) - {"include_usage", "continuous_usage_stats"}:
        reader.fault("stream_options", "may hold include_usage only")
    elif given.get("continuous_usage_stats"):
        reader.fault("stream_options.continuous_usage_stats", "is not supported by this server")
    elif not isinstance(given.get("include_usage", False), bool):
        reader.fault("stream_options.include_usage", "must be true or false")
    else:
        return bool(given.get("include_usage", False))
    return False


def check_room(ask: Ask, prompt_tokens: int, context: int | None) -> None:
    """Raise `Refused`, in vLLM's words, where prompt and answer do not fit into the context."""
    if context is None:
        return
    if prompt_tokens >= context:
        raise Refused(
            400,
            f"This model's maximum context length is {context} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages.",
            "messages",
        )
    if ask.max_tokens is not None and prompt_tokens + ask.max_tokens > context:
        raise Refused(
            400,
            f"'max_tokens' or 'max_completion_tokens' is too large: {ask.max_tokens}. This model's "
            f"maximum context length is {context} tokens and your request has {prompt_tokens} "
            f"input tokens ({ask.max_tokens} > {context} - {prompt_tokens}).",
            "max_tokens",
        )
