"""What goes over the wire: bodies of requests, and what an answer's choices mean. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fusechat.errors import SourceError
from fusechat.records import Finish, Request, Response
from fusechat.sources._top_logprobs import first_of

if TYPE_CHECKING:
    from fusechat.sources.endpoint import Endpoint

OWN_FIELDS = frozenset(
    {"model", "messages", "n", "seed", "stream", "stream_options", "max_tokens",
     "max_completion_tokens", "temperature", "top_p", "stop", "logprobs", "top_logprobs",
     "continue_final_message", "add_generation_prompt"}
)  # fmt: skip
EXTRAS = ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
"""Settings that are sent only where they are set."""
FINISHES: dict[str, Finish] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "MAX_TOKENS"), "length"),
}
REFUSED = {
    "content_filter": "the server's content filter took the answer away",
    "tool_calls": "the server answered with a tool call",
    "function_call": "the server answered with a tool call",
}
"""Ends that are no answer, and that asking again does not change."""
_DATED = re.compile(r"[-@:](\d[\d.-]*|main|latest)")


_NOT_CONTINUED = (
    "the prompt {prompt} begins its answer, and the servers of '{model}' are not known to go on "
    "with one; they would take it for a turn that is over. Where they do (vLLM, SGLang, fusechat "
    "serve), set 'prefill: true' beside 'model'; else leave the beginning out of the prompt."
)


class UnusableError(ValueError):
    """An answer that cannot be used; the request is repeated. The text is a countable reason."""


class WrongModelError(ValueError):
    """The server answered as another model."""


def body_of(part: Endpoint, request: Request, n: int) -> dict[str, Any]:
    """The request's body; the extras of vLLM only where they are set.

    Raises `SourceError` for a prompt whose answer is begun, where the servers do not go on with it.
    """
    begun = _begun(request)
    if begun and not part.prefills():
        raise SourceError(_NOT_CONTINUED.format(model=part.model, prompt=request.prompt.id[:12]))
    body: dict[str, Any] = {
        "model": part.model,
        "messages": request.prompt.chat(),
        "temperature": part.temperature,
        "top_p": part.top_p,
        part.tokens_field: part.max_new_tokens,
        "seed": request.seed,
    }
    extras = {name: getattr(part, name) for name in EXTRAS}
    body |= {name: value for name, value in extras.items() if value is not None}
    if begun:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if n > 1:
        body["n"] = n
    if part.stop:
        body["stop"] = list(part.stop)
    if part.logprobs or part.top_logprobs:
        body["logprobs"] = True
    if part.top_logprobs:
        body["top_logprobs"] = part.top_logprobs
    return body | part.extra_body


@dataclass
class Answer:
    """What one request gave: rows answered, indices still due, and what was odd."""

    rows: list[Response] = field(default_factory=list)
    due: list[Request] = field(default_factory=list)
    extra: int = 0
    """Choices beyond those asked for."""
    fingerprint: str | None = None


def read_answer(part: Endpoint, asked: Sequence[Request], body: Any) -> Answer:
    """The rows in an answer's body.

    Raises `UnusableError` where it is malformed and `WrongModelError` where another model answered.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("choices"), list):
        raise UnusableError("the server's answer has no choices")
    served = body.get("model")
    if isinstance(served, str) and served and not same_model(part, served):
        name = _whole(served[:100])
        raise WrongModelError(f"the server answered as '{name}', not as '{part.model}'")
    choices = _placed(body["choices"], len(asked))
    if not choices:
        raise UnusableError("the server's answer has no choices")
    common = _common(part, body)
    extra = max(0, len(body["choices"]) - len(choices))
    answer = Answer(extra=extra, fingerprint=common.get("fingerprint"))
    usage = body["usage"] if isinstance(body.get("usage"), Mapping) else {}
    whole = _count(usage.get("completion_tokens"))
    alone = len(body["choices"]) == 1
    together = [row.index for place, row in enumerate(asked) if place in choices]
    prompt_tokens = _count(usage.get("prompt_tokens"))
    for place, row in enumerate(asked):
        if place not in choices:
            answer.due.append(row)
            continue
        choice = choices[place]
        tokens = whole if alone and whole is not None else _own_tokens(choice)
        details = dict(common)
        if tokens is None and whole is not None:
            details |= {"shared_tokens": whole, "shared_by": together}
        counted = {"tokens": tokens, "prompt_tokens": prompt_tokens}
        answer.rows.append(_row(part, row, choice, counted, details))
    return answer


def read_one(part: Endpoint, request: Request, body: Any) -> Response:
    """The row of a body with one choice, as provider batch files hold; raises `ValueError`."""
    return read_answer(part, [request], body).rows[0]


def same_model(part: Endpoint, served: str) -> bool:
    """Whether a name is the asked one, one of `served_as`, or a dated snapshot of it."""
    for name in (part.model, *part.served_as):
        if served.casefold() == name.casefold():
            return True
        rest = served[len(name) :] if served.casefold().startswith(name.casefold()) else ""
        if _DATED.fullmatch(rest):
            return True
    return False


def _placed(choices: Sequence[Any], wanted: int) -> dict[int, Mapping[str, Any]]:
    """Choices by their `index` where all have a proper one, else by their order."""
    if not all(isinstance(c, Mapping) and isinstance(c.get("message"), Mapping) for c in choices):
        raise UnusableError("a choice in the server's answer has no message")
    indices = [choice.get("index") for choice in choices]
    proper = sorted(i for i in indices if type(i) is int) == list(range(len(choices)))
    places = indices if proper else range(len(choices))
    return {p: c for p, c in zip(places, choices, strict=True) if p < wanted}


def _whole(text: str) -> str:
    """Half characters (lone surrogates, which cannot be stored) as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _common(part: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    if isinstance(body.get("system_fingerprint"), str) and body["system_fingerprint"]:
        found["fingerprint"] = _whole(body["system_fingerprint"])
    if isinstance(body.get("model"), str) and body["model"] not in ("", part.model):
        found["served"] = _whole(body["model"])
    return found


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _own_tokens(choice: Mapping[str, Any]) -> int | None:
    """Tokens that a choice itself tells: its ids, or one log-probability for each."""
    if isinstance(choice.get("token_ids"), list):
        return len(choice["token_ids"])
    values = _logprobs(choice)
    return len(values) if values else None


def _logprobs(choice: Mapping[str, Any]) -> list[float] | None:
    """Log-probability of each token; None where they are not all there."""
    outer = choice.get("logprobs")
    inner = outer.get("content") if isinstance(outer, Mapping) else None
    if not isinstance(inner, list) or not inner:
        return None
    values = [entry.get("logprob") for entry in inner if isinstance(entry, Mapping)]
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return numbers if len(numbers) == len(inner) else None


def _begun(request: Request) -> bool:
    return request.prompt.messages[-1].role == "assistant"


def _row(
    part: Endpoint,
    request: Request,
    choice: Mapping[str, Any],
    found: dict[str, Any],
    details: dict[str, Any],
) -> Response:
    message = choice["message"]
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise UnusableError("a choice in the server's answer has no text")
    reason = choice.get("finish_reason")
    if _begun(request):  # no reasoning comes before the rest of an answer
        text, thought, cut = _whole(content or "").rstrip(), None, False
    else:
        text, thought, cut = split_reasoning(_whole(content or ""), part.think_tags)
    told = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(told, str) and (told := _whole(told).strip()):
        thought = told if thought is None else f"{told}\n{thought}"
    if part.logprobs and (values := _logprobs(choice)) is not None:
        found["logprob"] = math.fsum(values)
        details["logprobs"] = values
    if part.top_logprobs and (likely := first_of(choice)):
        details["top_logprobs"] = {_whole(token): value for token, value in likely.items()}
    if details:
        found["details"] = json.dumps(details, ensure_ascii=False)
    if reason in REFUSED:
        return request.response("", "error", error=REFUSED[reason], **found)
    if not isinstance(reason, str) or reason not in FINISHES:
        raise UnusableError(f"the server ended an answer with finish_reason {reason!r}"[:120])
    finish: Finish = "length" if cut else FINISHES[reason]
    return request.response(text, finish, reasoning=thought, **found)


def split_reasoning(text: str, tags: Sequence[str]) -> tuple[str, str | None, bool]:
    """An answer's text, its reasoning, and whether it ended inside the reasoning.

    Only what stands before the answer is reasoning: `<think>...</think>` at its start, or all
    before a `</think>` that nothing opened (templates that open it in the prompt).
    """
    thoughts: list[str] = []
    text = text.strip()
    while True:
        for tag in tags:
            opened, closed = f"<{tag}>", f"</{tag}>"
            before, found, after = text.partition(closed)
            if text.startswith(opened):
                if not found:
                    thoughts.append(text.removeprefix(opened).strip())
                    return "", _joined(thoughts) or "", True
                before = before.removeprefix(opened)
            elif not found or opened in before:
                continue
            thoughts.append(before.strip())
            text = after.strip()
            break
        else:
            return text, _joined(thoughts), False


def _joined(thoughts: Sequence[str]) -> str | None:
    return "\n".join(thought for thought in thoughts if thought) or None
