"""The page of `fusechat chat --web`: one conversation, the models' answers side by side.

Each engine has its own serving app below `/models/<number>`; the page streams from there. It runs
on the user's machine, so that a request is answered only where its `Host` is this server's and
its `Origin`, where there is one, is this page's: no other site that is open in the same browser
can read answers or make the models work.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from fusechat.serving.app import create_app
from fusechat.serving.contract import Engine, Refused
from fusechat.serving.conversation import Sampling, fitted, note_of_dropped

_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def create_page(
    engines: Sequence[Engine], port: int, sampling: Sampling, system: str | None = None
) -> Starlette:
    """The app of the page for these models, the first one first; it listens at `port`.

    `sampling` and `system` are what the page begins with; its user can change them.
    """
    page = _Page(engines, sampling, system)
    models = [Mount(f"/models/{at}", create_app(engine)) for at, engine in enumerate(engines)]
    return Starlette(
        routes=[Route("/", page.html), Route("/fit/{at:int}", page.fit, methods=["POST"]), *models],
        middleware=[Middleware(OwnPageOnly, port=port)],
    )


class OwnPageOnly:
    """Refuses what did not come from this server's own page; programs without a browser may ask.

    A foreign page cannot set `Host` or `Origin`. A name that an attacker points at 127.0.0.1 (DNS
    rebinding) is told by `Host`.
    """

    def __init__(self, app: Any, port: int) -> None:
        self._app = app
        self._hosts = {f"{host}:{port}" for host in _HOSTS}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http" and (fault := self.fault(Request(scope))):
            await PlainTextResponse(fault, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def fault(self, request: Request) -> str | None:
        """Why a request is refused."""
        headers: Mapping[str, str] = request.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return f"this server is not called '{host}'"
        if origin is not None and origin != f"http://{host}":
            return f"requests of {origin} are not answered"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and (request.method, request.url.path) != (
            "GET",
            "/",
        ):
            return "requests of another site are not answered"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            return "the body must be application/json"
        return None


class _Page:
    """The handlers of the page's own routes."""

    def __init__(self, engines: Sequence[Engine], sampling: Sampling, system: str | None) -> None:
        self._engines = engines
        self._begin = {**asdict(sampling), "system": system or ""}

    async def html(self, _: Request) -> Response:
        """The page; its script and style are in it, and nothing else may be loaded."""
        nonce = secrets.token_urlsafe(16)
        models = [{"name": one.name, "context": one.context} for one in self._engines]
        text = _template().render(
            nonce=nonce,
            style=_asset("chat.css"),
            script=_asset("chat.js"),
            models=models,
            begin=self._begin,
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return HTMLResponse(text, headers=headers)

    async def fit(self, request: Request) -> Response:
        """What of a conversation the model is to be shown, and how long its answer may be.

        Body: `system`, `turns` (the user's first and last), `max_new_tokens`, `sampling`. Answer:
        `ask`, the fields of the chat completion to ask for; `dropped`, how many messages are left
        out at the beginning; `note`, what the user is told of that.
        """
        try:
            engine, system, turns, most = self._wanted(request, json.loads(await request.body()))
            fit = fitted(engine, system, turns, most)
        except Refused as refused:
            return JSONResponse(refused.body(), refused.status)
        except ClientDisconnect:
            return Response(status_code=400)
        except ValueError as error:
            return JSONResponse(Refused(400, f"the body is not JSON: {error}").body(), 400)
        head = [{"role": "system", "content": system}] if system else []
        note = note_of_dropped(fit.dropped, engine.context) if fit.dropped else ""
        ask = {
            "model": engine.name,
            "messages": [*head, *turns[fit.dropped :]],
            "max_tokens": fit.room,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return JSONResponse({"ask": ask, "dropped": fit.dropped, "note": note})

    def _wanted(
        self, request: Request, body: Any
    ) -> tuple[Engine, str | None, list[dict[str, str]], int]:
        at = request.path_params["at"]
        if at >= len(self._engines):
            raise Refused(404, f"there is no model {at} here")
        if not isinstance(body, Mapping):
            raise Refused(400, "the body must be a JSON object")
        system, most = body.get("system") or None, body.get("max_new_tokens")
        turns = body.get("turns")
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise Refused(400, "max_new_tokens must be a whole number of 1 or more")
        if system is not None and not isinstance(system, str):
            raise Refused(400, "system must be a text")
        if not isinstance(turns, list) or not turns or not all(map(_is_message, turns)):
            raise Refused(400, "turns must be messages with role and content, at least one")
        if turns[-1]["role"] != "user":
            raise Refused(400, "the last of the turns must be the user's")
        return self._engines[at], system, turns, most


def _is_message(one: Any) -> bool:
    return (
        isinstance(one, Mapping)
        and set(one) == {"role", "content"}
        and one["role"] in ("user", "assistant")
        and isinstance(one["content"], str)
    )


def _asset(name: str) -> str:
    return resources.files("fusechat.serving").joinpath(f"assets/{name}").read_text("utf-8")


def _template() -> Any:
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("chat.html"))
