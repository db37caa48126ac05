"""The source `endpoint`: any server that speaks OpenAI's chat completions.

vLLM, SGLang, TGI, llama.cpp, `transformers serve`, hosted services. The samples of a prompt go out
in one request with `n`; choice i of a request with seed s has the seed s + i, as vLLM counts
(`vllm/v1/engine/parallel_sampling.py`), so a later top-up never repeats one. See docs/sampling.md.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fusechat.digests import digest
from fusechat.errors import PartError
from fusechat.parts import SPEED, RowPart, Source, Where, Work
from fusechat.records import Prompt, Request
from fusechat.sources._endpoint_wire import EXTRAS, OWN_FIELDS
from fusechat.sources._kept_logps import KeptLogps

SEED_ROOM = 2**20
"""Sample indices that a prompt's base seed leaves room for below 2**31."""


class Endpoint(Source):
    """A model behind one or more servers that speak OpenAI's chat completions.

    Defaults are the sampling settings of FuseChat-3.0 (temperature 0.8, top-p 0.95). The messages
    are the prompt's own, without a system prompt added. An answer that reaches `max_new_tokens`
    has finish `length` and is never chosen. `logprob` is the sum over the answer's tokens (those
    of its reasoning included) as the server tells it, in nats. White space around is left out.
    """

    io_bound: ClassVar[bool] = True

    model: str = Field(min_length=1)
    """The name under which the servers know the model."""
    temperature: float = Field(default=0.8, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    """Of vLLM, SGLang, llama.cpp; none: not sent, and then the server's own default holds."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """As `top_k`."""
    repetition_penalty: float | None = Field(default=None, gt=0)
    """As `top_k`."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken from the logits of tokens that the answer has; none: not sent."""
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken from a token's logit as often as the answer has it; none: not sent."""
    max_new_tokens: int = Field(default=2048, ge=1)
    stop: tuple[str, ...] = ()
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request, such as `{chat_template_kwargs: {enable_thinking: false}}`."""
    logprobs: bool = False
    """Whether the log-probability of each token is asked for and kept."""
    top_logprobs: int = Field(default=0, ge=0, le=20)
    """So many of the likeliest first tokens are asked for and kept in the answer's details, as
    `top_logprobs`: token -> nats, as the server tells them (of the model itself, in vLLM and in
    `fusechat serve`). For judges who answer with one word."""
    prefill: bool = False
    """Whether the servers continue the assistant's last message, as vLLM, SGLang and `fusechat
    serve` do (`continue_final_message`). Others would answer it as another turn, so without this
    a prompt whose answer is begun is refused."""
    seeds: tuple[int, ...] | None = None
    """Seed of each sample index, the same for all prompts (FuseChat-3.0: 13, 21, 42, 79, 100, 1, 2,
    3); each sample is then a request of its own. None: seeds of each prompt's own."""
    think_tags: tuple[str, ...] = ("think",)
    """`<think>...</think>` before an answer is its reasoning, kept apart from the text."""
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the bound of new tokens."""
    base_urls: Annotated[tuple[str, ...], SPEED] = ()
    """Servers of this model, such as `http://10.0.0.7:8000/v1`; `base_url` takes a single one."""
    api_key_env: Annotated[str | None, SPEED] = None
    """Name of the environment variable that holds the key."""
    served_as: Annotated[tuple[str, ...], SPEED] = ()
    """Other names by which the servers may call the same model in their answers."""
    concurrency: Annotated[int, SPEED] = Field(default=64, ge=1)
    """Most requests in flight, over all servers."""
    samples_per_request: Annotated[int, SPEED] = Field(default=16, ge=1)
    request_timeout: Annotated[float, SPEED] = Field(default=900.0, gt=0)
    """Seconds for one request with all its samples."""
    retries: Annotated[int, SPEED] = Field(default=5, ge=0)
    """How often a request is repeated whose answer failed (500, cut, not readable, time-out)."""
    give_up_after: Annotated[float, SPEED] = Field(default=3600.0, ge=0)
    """Seconds without any server that can be reached, after which rows fail."""
    wait_for_limits: Annotated[float, SPEED] = Field(default=6 * 3600.0, ge=0)
    """Seconds that a request waits for rate limits (429, 503) before its rows fail."""
    backoff: Annotated[float, SPEED] = Field(default=1.0, gt=0)
    """Seconds before the first repetition; doubled each time, up to 60, with jitter."""

    @model_validator(mode="before")
    @classmethod
    def _one_url(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "base_url" in data and "base_urls" not in data:
            data = {"base_urls": data["base_url"], **data}
            del data["base_url"]
        return data

    @field_validator("base_urls", "stop", "served_as", "think_tags", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def faults(self) -> Iterator[tuple[str, str]]:
        """Unusable URLs, repeated seeds, fields of the body that are ours."""
        yield from super().faults()
        for message in url_faults(self.base_urls):
            yield "base_urls", message
        for seed, count in Counter(self.seeds or ()).items():
            if count > 1:
                yield "seeds", f"{seed} is there {count} times; its samples would be the same."
        if any(not 0 <= seed < 2**31 for seed in self.seeds or ()):
            yield "seeds", "seeds are from 0 to 2147483647, which every server takes."
        taken = {*OWN_FIELDS, *(name for name in EXTRAS if getattr(self, name) is not None)}
        for name in sorted(taken & self.extra_body.keys()):
            own = "set it beside 'model'" if name in SETTABLE else "it is ours to send"
            yield "extra_body", f"'{name}' cannot be in extra_body: {own}."

    def prefills(self) -> bool:
        """As `prefill` says."""
        return self.prefill

    def logps(self) -> RowPart | str:
        """Of its own responses, what the server told of them; with `logprobs` only."""
        if self.logprobs:
            return KeptLogps()
        return (
            f"the servers of '{self.model}' are not asked for log-probabilities. Set 'logprobs: "
            "true', and it has those of its own responses; or name the model as an 'hf' source."
        )

    def digest(self) -> str:
        """Without `seeds`: a row has its own seed in what it sees, so a longer list keeps rows."""
        key = self.key()
        settings = {name: v for name, v in key["settings"].items() if name != "seeds"}
        return digest(key | {"settings": settings})

    def row_seed(self, seed: int, prompt: Prompt, index: int) -> int:
        """`seeds[index]`; without a list a base of the prompt's own plus the index, below 2**31.

        Raises `PartError` where the list is too short.
        """
        if self.seeds is not None:
            if index >= len(self.seeds):
                raise PartError(
                    f"the source '{self.model}' is asked for more samples than its 'seeds' list "
                    f"has ({len(self.seeds)}). Add seeds, ask for fewer samples, or leave 'seeds' "
                    "out: then each prompt has seeds of its own."
                )
            return self.seeds[index]
        if index >= SEED_ROOM:
            raise PartError(f"a prompt can have {SEED_ROOM} samples of a source, not more.")
        base = int(digest([seed, self.digest(), prompt.id]), 16) % (2**31 - SEED_ROOM)
        return base + index

    def place_faults(self, where: Where) -> Iterator[str]:
        """No server named, a URL of the cluster file that is none, a key that is not set."""
        urls = where.base_urls or self.base_urls
        if not urls:
            yield (
                f"no server is named for '{self.model}'. Give base_urls: [http://HOST:PORT/v1] in "
                "the recipe, or for its unit (sample/NAME) in the cluster file."
            )
        yield from url_faults(urls)
        variable = where.api_key_env or self.api_key_env
        if variable is not None and (fault := key_fault(variable)):
            yield fault

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Look at the servers; the work keeps up to `concurrency` requests in flight.

        Raises `PartError` where there is no server named, no key, a key that every server
        refuses, or a context without room for an answer.
        """
        from fusechat.sources._endpoint_pump import Pump

        with Pump(placed(self, where)) as pump:
            yield pump


SETTABLE = {"temperature", "top_p", "stop", "logprobs", "top_logprobs", "seed", *EXTRAS}


def placed(part: Endpoint, where: Where) -> Endpoint:
    """The part with the cluster file's place and speed; raises `PartError` with the mend."""
    if faults := list(part.place_faults(where)):
        raise PartError(" ".join(faults))
    found = {name: getattr(where, name) for name in ("api_key_env", "concurrency")}
    found |= {"request_timeout": where.request_timeout, "base_urls": where.base_urls or None}
    part = part.model_copy(update={name: v for name, v in found.items() if v is not None})
    return part.model_copy(update={"base_urls": tuple(map(plain_url, part.base_urls))})


def plain_url(url: str) -> str:
    """Without a slash at its end; with `/v1` where it has no path."""
    url = url.rstrip("/")
    return url if urlsplit(url).path else url + "/v1"


def url_faults(urls: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with the form of some URLs."""
    for url in urls:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            yield f"a base URL cannot be read: {error}."
            continue
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"'{url}' is no server's URL: write http://HOST:PORT/v1."
        elif parts.username or parts.password or parts.query:
            yield (
                f"the URL of {parts.hostname} has a name, key or query in it, which would be "
                "kept with the run: put the key into a variable, and name that in api_key_env."
            )
        elif parts.path.rstrip("/").endswith("/completions"):
            yield f"'{url}' names one call; give what stands before '/chat/completions'."
    for url, count in Counter(map(plain_url, urls)).items():
        if count > 1:
            yield f"'{url}' is there {count} times; concurrency is shared, so once is enough."


def key_fault(variable: str) -> str | None:
    """Why the key cannot be had; never says the key itself."""
    value = os.environ.get(variable, "").strip()
    if not value:
        return f"the variable {variable} is not set; the servers' key is read from it alone."
    if not (value.isascii() and value.isprintable()):
        return f"the variable {variable} has characters that no key has (a line end, an accent)."
    return None


def request_body(part: Endpoint, request: Request, n: int = 1) -> dict[str, Any]:
    """The body that asks for `request` and the `n - 1` sample indices after it."""
    from fusechat.sources._endpoint_wire import body_of

    return body_of(part, request, n)
