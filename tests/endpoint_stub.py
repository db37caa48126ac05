"""A scripted chat server in a thread, for tests of the source `endpoint`.

It answers as vLLM does (`n`, seed s + i for choice i); `script` says what it does wrong instead.
Run as a program it prints its port and logs each request's row seeds to a file.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Script = Callable[[int, Body], Body | None]


def text_of(body: Body, seed: int) -> str:
    """The answer: it tells the question and the seed, and is long enough to be compared."""
    return f"To {body['messages'][-1]['content']!r} the answer with seed {seed} is this text."


@dataclass
class Stub:
    """`script(number, body)` may give status, headers, raw, cut, wait, and fields of `answer`."""

    script: Script = lambda number, body: None
    key: str | None = None
    models: Any = None
    seen: list[Body] = field(default_factory=list)
    flying: int = 0
    most_flying: int = 0
    url: str = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        try:
            told = request.headers.get("Authorization", "")
            if self.key is not None and told != f"Bearer {self.key}":
                return web.json_response({"error": {"message": f"bad key {told}"}}, status=401)
            return await self._answer(request, body, self.script(len(self.seen), body) or {})
        finally:
            self.flying -= 1

    async def _answer(self, request: web.Request, body: Body, act: Body) -> web.StreamResponse:
        await asyncio.sleep(act.get("wait", 0))
        if "raw" in act or "status" in act:
            kind = act.get("type", "application/json")
            options = {"status": act.get("status", 200), "headers": act.get("headers")}
            raw = act.get("raw", "{}")
            return web.Response(text=raw, content_type=kind, **options)
        whole = json.dumps(answer(body, act)).encode()
        if act.get("cut"):
            response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=whole, content_type="application/json")

    async def listing(self, request: web.Request) -> web.Response:
        told = request.headers.get("Authorization", "")
        if self.key is not None and told != f"Bearer {self.key}":
            return web.json_response({"error": f"bad key {told}"}, status=401)
        return web.json_response(self.models, status=200 if self.models else 404)


def answer(body: Body, act: Body) -> Body:
    """A chat completion; `act` may say model, n, text, finish, usage, message, logprobs."""
    choices = []
    for i in range(act.get("n", body.get("n", 1))):
        text = act["text"] if "text" in act else text_of(body, body["seed"] + i)
        choice: Body = {"index": i, "finish_reason": act.get("finish", "stop")}
        choice["message"] = {"role": "assistant", "content": text, **act.get("message", {})}
        if body.get("logprobs") and act.get("logprobs", True):
            choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5 - i}] * 4}
        choices.append(choice)
    usage = {"prompt_tokens": 7, "completion_tokens": 4 * len(choices)}
    out = {"model": act.get("model", body["model"]), "choices": choices, "usage": usage}
    return out | act.get("fields", {})


async def _start(stub: Stub, port: int = 0) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", stub.chat)
    app.router.add_get("/v1/models", stub.listing)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    return runner


@contextmanager
def serving(*stubs: Stub) -> Iterator[tuple[str, ...]]:
    """The servers' URLs, while they run in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    runners = []
    try:
        for stub in stubs:
            runners.append(do(_start(stub)))
        yield tuple(stub.url for stub in stubs)
    finally:
        for runner in runners:
            do(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def main(log: str, seconds: str) -> None:
    """Serve until killed; each answer waits `seconds`; the log has (prompt, seeds) of each."""

    def script(number: int, body: Body) -> Body:
        seeds = [body["seed"] + i for i in range(body.get("n", 1))]
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps([body["messages"][-1]["content"], seeds]) + "\n")
        return {"wait": float(seconds)}

    async def run() -> None:
        stub = Stub(script)
        await _start(stub)
        print(stub.url, flush=True)
        while True:
            await asyncio.sleep(3600)

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
