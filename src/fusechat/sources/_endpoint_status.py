"""What an answer that is none means: wait, ask elsewhere, ask again, or give the rows up. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fusechat.sources._endpoint_pace import retry_after

TOO_LONG = "the prompt and max_new_tokens do not fit into the context of the server's model"
_CONTEXT = re.compile(
    r"context[ _-]*(length|window|size)|maximum (context|model) len|max_model_len|too many tokens|"
    r"prompt is too long|inputs`? tokens \+ `?max_new_tokens|input.{0,20}longer than",
    re.IGNORECASE,
)


class LimitedError(Exception):
    """Too many requests: wait (`seconds`, None where the server does not say); no failed try."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__("rate limited")
        self.seconds = seconds


class UnreachableError(Exception):
    """The server is not there now; no failed try."""


class FailedError(Exception):
    """The request failed in a way that may pass; a failed try. `slow`: ask less at once."""

    def __init__(self, reason: str, slow: bool = False) -> None:
        super().__init__(reason)
        self.slow = slow


class RefusedError(Exception):
    """The request itself is wrong; asking again changes nothing. `said`: the server's words."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.said = said


class WrongServerError(Exception):
    """This server will not do before someone mends it; another may."""


def meaning(
    status: int, headers: Mapping[str, str], text: str, variable: str | None
) -> Exception | None:
    """What a status says; None for an answer. `variable`: where the key is from."""
    wait = retry_after(headers.get("Retry-After"), headers.get("Date"))
    if status == 200:
        return None
    if status == 429 or (status == 503 and wait is not None):
        return LimitedError(wait)
    if status in (502, 503, 504):
        return UnreachableError(f"the server answers with {status}")
    if status in (408, 409, 425) or status >= 500:
        return FailedError(f"the server answers with {status}", slow=status == 408)
    if status in (401, 403):
        mend = f"mend the variable {variable}" if variable else "name its key in api_key_env"
        return WrongServerError(f"the server refuses the key ({status}); {mend}")
    return _refusal(status, message_of(text))


def _refusal(status: int, said: str) -> RefusedError:
    if status in (400, 413, 422) and _CONTEXT.search(said):
        return RefusedError(TOO_LONG, said)
    reason = f"the server refuses the request ({status}): {said or 'no reason given'}"
    return RefusedError(reason)


def message_of(text: str) -> str:
    """The message in an error's body, on one line, short."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = text
    while isinstance(found, Mapping):
        found = next((found[k] for k in ("error", "message", "detail", "code") if k in found), "")
    return " ".join(str(found).split())[:200].encode("utf-8", "replace").decode()
