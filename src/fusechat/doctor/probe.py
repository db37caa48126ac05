"""Servers, asked: do they answer, is it the right model, do n, seed and temperature count?

Only with `--probe`, since it costs some dozen tokens. Everything is read from the answers; the
key comes from the named environment variable and is in no finding.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fusechat.doctor.findings import COULD_NOT_LOOK, Finding, shortened
from fusechat.parts import Where
from fusechat.recipe import Cluster, Recipe

QUESTION = "Write one unusual sentence about the sea."
TOKENS = 24
TIMEOUT = 30.0
_BROKEN = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Server:
    """One server of one source, and how it is asked."""

    url: str
    model: str
    key: str = ""
    timeout: float = TIMEOUT
    temperature: float = 1.0
    top_p: float = 1.0
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    needs: int | None = None
    """Tokens that its context must have at least: the longest answer."""

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self._ask(path, None)

    def chat(self, n: int, seed: int) -> list[str]:
        """The texts of the choices that the server gives to the question."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": TOKENS,
            "n": n,
            "seed": seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
            **self.extra_body,
        }
        choices = self._ask("/chat/completions", body)["choices"]
        return [_text(choice["message"]) for choice in choices]

    def _ask(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "fusechat"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.rstrip("/") + path, data, headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())

    def hide(self, text: str) -> str:
        """A text of the server or the network, without the key."""
        return shortened(text.replace(self.key, "***") if self.key else text, 160)


def _text(message: Any) -> str:
    """All that was written, thoughts first: they too differ between samples."""
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    return str(thoughts) + str(message.get("content") or "")


def probed(recipe: Recipe, cluster: Cluster, ask: bool) -> Iterator[Finding]:
    """Findings on every server of a recipe; without `ask` only that they were not asked."""
    for name, entry in recipe.sources.items():
        where = cluster.where(f"sample/{name}")
        urls = base_urls(entry.part, where)
        place = f"sources.{name}"
        if not urls:
            if hasattr(entry.part, "base_urls") and entry.part.part_name() != "vllm":
                what = "could not look at its server: none is named."
                mend = "Say base_urls in the cluster file (--cluster) under units: sample/NAME."
                yield Finding("note", COULD_NOT_LOOK, what, mend, place)
            continue
        if not ask:
            what = f"could not look at {len(urls)} server(s): not asked without --probe."
            yield Finding("note", COULD_NOT_LOOK, what, "Add --probe.", place)
            continue
        variable = where.api_key_env or getattr(entry.part, "api_key_env", None)
        key = os.environ.get(variable, "") if variable else ""
        if variable and not key:
            yield Finding(
                "fault", "server-key", f"the environment variable {variable} is not set.",
                f"export {variable}=...", place,
            )  # fmt: skip
            continue
        for url in urls:
            for one in look_at(_server(entry.part, where, url, key)):
                yield Finding(one.level, one.check, f"{url}: {one.what}", one.mend, place)


def base_urls(part: Any, where: Where) -> tuple[str, ...]:
    """The servers of a source: the cluster file's, or else the recipe's."""
    own = getattr(part, "base_urls", None) or getattr(part, "base_url", None) or ()
    return tuple(where.base_urls or ((own,) if isinstance(own, str) else own))


def _server(part: Any, where: Where, url: str, key: str) -> Server:
    asked = where.request_timeout or getattr(part, "request_timeout", None) or TIMEOUT
    return Server(
        url=url, model=str(getattr(part, "model", "")), key=key,
        timeout=min(asked, TIMEOUT), temperature=getattr(part, "temperature", None) or 0.0,
        top_p=getattr(part, "top_p", None) or 1.0, extra_body=getattr(part, "extra_body", {}),
        needs=getattr(part, "max_new_tokens", None),
    )  # fmt: skip


def look_at(server: Server) -> Iterator[Finding]:
    """All findings on one server; one that does not answer is asked nothing more."""
    try:
        listed = _listed(server)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                yield _key(error.code)
                return
        listed = None  # some servers have no list of models; the question below decides
    except _BROKEN as error:
        yield _unreachable(server, error)
        return
    if listed is None:
        yield Finding("note", "server-lists-nothing", "could not look at /models: not given.")
    else:
        yield from _of_list(server, listed)
    try:
        yield from _of_answers(server)
    except urllib.error.HTTPError as error:
        with error:
            yield _key(error.code) if error.code in (401, 403) else _refusal(server, error)
    except (*_BROKEN, KeyError, TypeError, AttributeError) as error:
        yield _unreachable(server, error)


def _listed(server: Server) -> list[dict[str, Any]] | None:
    found = server.get("/models")
    data = found.get("data") if isinstance(found, dict) else None
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else None


def _of_list(server: Server, listed: list[dict[str, Any]]) -> Iterator[Finding]:
    """The right model, with context enough."""
    own = next((one for one in listed if one.get("id") == server.model), None)
    if own is None:
        names = ", ".join(str(one.get("id")) for one in listed[:4]) or "nothing"
        yield Finding(
            "fault", "server-other-model", f"serves {shortened(names, 120)}, not {server.model}.",
            "Name the model as the server does, or start the server with --served-model-name.",
        )  # fmt: skip
        return
    length = own.get("max_model_len")
    if isinstance(length, int) and server.needs is not None and server.needs >= length:
        yield Finding(
            "fault", "context-no-room",
            f"serves a context of {length} tokens, and max_new_tokens is {server.needs}: no prompt "
            "fits beside an answer of that length.",
            "Lower max_new_tokens, or raise --max-model-len.",
        )  # fmt: skip


def _of_answers(server: Server) -> Iterator[Finding]:
    """n, seed and temperature, told from what comes back."""
    first = server.chat(2, 13)
    if not any(text.strip() for text in first):
        yield Finding("warning", "server-empty-answer", "answered the question with nothing.",
                      "Look at the server's chat template and its stop tokens.")  # fmt: skip
        return
    if len(first) != 2:
        yield Finding(
            "warning", "server-ignores-n", f"gave {len(first)} choice(s) where n=2 was asked for.",
            "Nothing: the source asks again for what is missing; each sample then costs a request.",
        )  # fmt: skip
    if server.temperature == 0:
        return
    again, other = server.chat(2, 13), server.chat(2, 4711)
    if len({*first, *again, *other}) == 1:
        yield Finding(
            "warning", "server-greedy",
            f"gave the same text {len(first) + len(again) + len(other)} times at temperature "
            f"{server.temperature}: it does not draw.",
            "Look for a proxy's cache, or a server that ignores temperature.",
        )  # fmt: skip
        return
    if len(first) == 2 and first[0] == first[1] and again[:1] == again[1:]:
        yield Finding(
            "warning", "server-same-choices", "the choices of one request are the same text.",
            "Ask for one sample a request: each has its own seed then.",
        )  # fmt: skip
    if first != again:
        yield Finding(
            "note", "server-seed-not-kept",
            "the same seed gave another text: a sample cannot be made again, only kept.",
            "Usual for servers that batch; nothing is lost, since all samples are stored.",
        )  # fmt: skip


def _key(code: int) -> Finding:
    return Finding("fault", "server-key", f"refuses the key (HTTP {code}).",
                   "Set the environment variable that api_key_env names.")  # fmt: skip


def _refusal(server: Server, error: urllib.error.HTTPError) -> Finding:
    said = server.hide(error.read(2000).decode(errors="replace"))
    return Finding("fault", "server-refuses", f"HTTP {error.code} to a short question: {said}",
                   "Try the same with curl, and look at the server's log.")  # fmt: skip


def _unreachable(server: Server, error: BaseException) -> Finding:
    said = server.hide(str(getattr(error, "reason", None) or error or type(error).__name__))
    return Finding("fault", "server-unreachable", f"does not answer as an OpenAI server: {said}",
                   "Start it, or mend base_urls (they end in /v1).")  # fmt: skip
