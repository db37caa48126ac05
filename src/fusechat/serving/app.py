"""The HTTP side of `fusechat serve`: an ASGI app over an engine."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fusechat.serving import answers
from fusechat.serving.contract import Ask, Engine, Job, Piece, Refused, check_room, read_ask
from fusechat.serving.engine import seeds_of
from fusechat.serving.faults import BEFORE, Faults, Met

_Send = Callable[..., Awaitable[None]]


class Cut(Exception):  # noqa: N818 - a fault on purpose
    """Raised to end a connection in the middle of an answer."""


class _Gone(Exception):  # noqa: N818
    """The client has closed its connection."""


def create_app(
    engine: Engine, *, faults: Faults | None = None, api_key: str | None = None
) -> Starlette:
    """The app of one engine; `faults` breaks answers, `api_key` is asked for below `/v1`."""
    service = _Service(engine, faults, api_key)
    routes = [
        Route("/health", service.health),
        Route("/v1/models", service.models),
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
    ]
    if faults is not None:
        routes.append(Route("/faults/counts", service.counts))
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path}: {getattr(error, 'detail', 'Not Found')}"
    return _refusal(Refused(status, message))


def _refusal(refused: Refused, retry_after: float | None = None) -> JSONResponse:
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return JSONResponse(refused.body(), refused.status, headers)


class _Service:
    """The handlers of one app."""

    def __init__(self, engine: Engine, faults: Faults | None, api_key: str | None) -> None:
        self._engine, self._faults, self._api_key = engine, faults, api_key
        self._begun = int(time.time())

    async def health(self, _: Request) -> Response:
        """200 as long as the server runs."""
        return Response(status_code=200)

    async def models(self, request: Request) -> Response:
        """The one model that is served."""
        try:
            self._authorize(request)
        except Refused as refused:
            return _refusal(refused)
        name = self._engine.name
        model = {
            "id": name,
            "object": "model",
            "created": self._begun,
            "owned_by": "fusechat",
            "root": name,
            "parent": None,
            "max_model_len": self._engine.context,
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def counts(self, _: Request) -> Response:
        """What the faults saw."""
        assert self._faults is not None
        return JSONResponse(self._faults.counts())

    async def chat(self, request: Request) -> Response:
        """Answer one request."""
        faults = self._faults or Faults()
        number = faults.begin()
        try:
            self._authorize(request)
            ask = read_ask(await _body(request), self._engine.name, self._engine.defaults)
            met = faults.meet(number, ask)
            if "slow" in met:
                await asyncio.sleep(met["slow"].seconds)
            if kind := next((kind for kind in BEFORE if kind in met), None):
                return _broken(faults, kind, met)
            ids = self._engine.encode(ask.messages, ask.goes_on)
            check_room(ask, len(ids), self._engine.context)
        except Refused as refused:
            faults.end(str(refused.status))
            return _refusal(refused)
        except ClientDisconnect:
            faults.end("gone")
            return Response(status_code=400)
        ask = replace(ask, n=1) if "ignore_n" in met else ask
        drawn = replace(ask, temperature=0.0) if "greedy" in met else ask
        faults.computed(ask)
        name = met["wrong_model"].model if "wrong_model" in met else self._engine.name
        answer = _Answer(drawn, ids, name, met, faults)
        return await answer.respond(self._engine, request)

    def _authorize(self, request: Request) -> None:
        if self._api_key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(key.encode(), self._api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refused(401, "Unauthorized: give the server's key as 'Authorization: Bearer KEY'")


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error


def _broken(faults: Faults, kind: str, met: Met) -> Response:
    """The answer in place of the model's."""
    rule = met[kind]
    status = 429 if kind == "rate_limit" else rule.status
    faults.end(str(status))
    wait = rule.retry_after if status in (429, 503) else None
    return _refusal(Refused(status, f"a fault on purpose: {kind}"), wait)


class _Answer:
    """One answer on its way: collects the engine's pieces, and sends them whole or as a stream."""

    def __init__(self, ask: Ask, ids: list[int], model: str, met: Met, faults: Faults) -> None:
        self._ask, self._ids, self._met, self._faults = ask, ids, met, faults
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._form = answers.Form(ask, len(ids), head)
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()

    async def respond(self, engine: Engine, request: Request) -> Response:
        """Ask the engine, and answer."""
        loop = asyncio.get_running_loop()

        def say(piece: Piece | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

        job = Job(self._ask, self._ids, seeds_of(self._ask), say)
        engine.submit(job)
        if self._ask.stream:
            return _Raw(self._stream(job, request), "text/event-stream; charset=utf-8")
        try:
            body = await self._whole(job, request)
        except _Gone:
            self._faults.end("gone")
            return Response(status_code=400)
        except Refused as refused:
            self._faults.end(str(refused.status))
            return _refusal(refused)
        if "malformed" in self._met:
            body = body[: len(body) // 2]
        if "cut" in self._met:
            self._faults.end("cut")
            upto = int(len(body) * self._met["cut"].after)
            return _Raw(_cut_body(body[:upto]), "application/json", len(body))
        self._faults.end("200")
        self._faults.sent(self._ask.n, self._form.tokens)
        return Response(body, media_type="application/json")

    async def _whole(self, job: Job, request: Request) -> bytes:
        async with aclosing(self._until_done(job, request)) as pieces:
            async for piece in pieces:
                self._form.add(piece)
        return _json(self._form.whole())

    async def _until_done(self, job: Job, request: Request) -> AsyncGenerator[Piece, None]:
        """All pieces of the answer; ends the job where the client goes away or the engine fails."""
        gone = asyncio.ensure_future(_disconnected(request))
        left = self._ask.n
        try:
            while left:
                coming = asyncio.ensure_future(self._pieces.get())
                await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    raise _Gone
                piece = coming.result()
                if isinstance(piece, Refused):
                    raise piece
                if isinstance(piece, Exception):
                    raise Refused(500, str(piece))
                if "empty" in self._met:
                    piece = replace(piece, text="", chances=())
                left -= piece.finish is not None
                yield piece
        finally:
            job.cancelled = job.cancelled or left > 0
            gone.cancel()

    async def _stream(self, job: Job, request: Request) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events; ends in the middle where it is cut or broken."""
        status, form = "gone", self._form
        try:
            for event in form.begin():
                yield _event(event)
            cut = self._met.get("cut")
            async with aclosing(self._until_done(job, request)) as pieces:
                async for piece in pieces:
                    form.add(piece)
                    if cut is not None and form.ended >= int(self._ask.n * cut.after):
                        status = "cut"
                        raise Cut
                    if "malformed" in self._met:
                        yield b'data: {"id": "chatcmpl-\n\n'
                    yield _event(form.chunk(piece))
            if self._ask.include_usage:
                yield _event(form.usage_chunk())
            yield b"data: [DONE]\n\n"
            status = "200"
            self._faults.sent(self._ask.n, form.tokens)
        except Refused as refused:
            status = str(refused.status)
            yield _event(refused.body())
            yield b"data: [DONE]\n\n"
        except _Gone:
            return
        finally:
            self._faults.end(status)


class _Raw(Response):  # type: ignore[misc]
    """Sends chunks as they come, and is not shocked where they end too early."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], media_type: str = "", length: int | None = None
    ) -> None:
        super().__init__(media_type=media_type or None)
        self._chunks = chunks
        kind = [(b"content-type", media_type.encode())] if media_type else []
        size = [] if length is None else [(b"content-length", str(length).encode())]
        self._headers = [*kind, *size]

    async def __call__(
        self, scope: Any, receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        """Send all; an early end leaves the answer unfinished, so that the connection is closed."""
        begun = False
        chunks = self._chunks
        try:
            async for chunk in chunks:
                if not begun:
                    start = {"type": "http.response.start", "status": 200}
                    await send({**start, "headers": self._headers})
                begun = True
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Cut:
            return
        finally:
            await chunks.aclose()
        await send({"type": "http.response.body", "body": b""})


async def _cut_body(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    raise Cut


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _event(value: Any) -> bytes:
    return b"data: " + _json(value) + b"\n\n"
