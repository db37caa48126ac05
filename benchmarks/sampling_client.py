"""The client of `endpoint` against AsyncOpenAI under one semaphore: requests per second, CPU.

    python benchmarks/sampling_client.py [--requests 2000] [--rounds 7] [--flight 256]

The server is a process of its own that answers at once with a fixed text of 430 tokens' length,
so that the client is what limits. Both ask the same requests (n=1) with 256 in flight, in turns
within one run; that all answers are the same is checked first. CPU is that of the client's process
with all its threads. Needs the package `openai`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

from fusechat.parts import Where
from fusechat.records import Prompt, Request
from fusechat.sources.endpoint import Endpoint

Answers = list[tuple[int, str]]


class Server(asyncio.Protocol):
    """As little HTTP as both clients need: keep-alive, POST with a length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self.data) < end + 4 + size:
                return
            body, self.data = self.data[end + 4 : end + 4 + size], self.data[end + 4 + size :]
            self.reply(json.loads(body)["seed"] if body else 0)

    def reply(self, seed: int) -> None:
        message = {"role": "assistant", "content": f"{seed} " + "word " * 400}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 401, "total_tokens": 410}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        raw = json.dumps(answer | {"choices": [choice], "usage": usage}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + raw)  # type: ignore[attr-defined]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def requests_of(count: int) -> list[Request]:
    return [
        Request(
            prompt=Prompt.of(f"{i} " + "word " * 190, domain="d"), source="s", index=0, seed=i,
            model="m", made_from=str(i),
        )
        for i in range(count)
    ]  # fmt: skip


def ours(url: str, rows: list[Request], flight: int) -> Answers:
    part = Endpoint(model="m", base_urls=(url,), concurrency=flight)
    with part.open(Where()) as work:
        return [(row.index + int(row.made_from), row.text) for row in work(iter(rows))]


def openai(url: str, rows: list[Request], flight: int) -> Answers:
    from openai import AsyncOpenAI

    async def run() -> Answers:
        slots = asyncio.Semaphore(flight)
        async with AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one(row: Request) -> tuple[int, str]:
                async with slots:
                    out = await client.chat.completions.create(
                        model="m", messages=row.prompt.chat(), temperature=0.8, top_p=0.95,
                        max_tokens=2048, seed=row.seed,
                    )  # type: ignore[call-overload]  # fmt: skip
                return row.seed, out.choices[0].message.content.strip()

            return list(await asyncio.gather(*map(one, rows)))

    return asyncio.run(run())


def measure(client: Callable[..., Answers], *given: object) -> tuple[float, float, Answers]:
    wall, cpu = time.perf_counter(), time.process_time()
    answers = client(*given)
    return time.perf_counter() - wall, time.process_time() - cpu, sorted(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--flight", type=int, default=256)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            compare(f"http://127.0.0.1:{server.stdout.readline().strip()}/v1", options)
        finally:
            server.kill()


def compare(url: str, options: argparse.Namespace) -> None:
    rows, flight = requests_of(options.requests), options.flight
    few = rows[:100]
    if measure(ours, url, few, flight)[2] != measure(openai, url, few, flight)[2]:
        sys.exit("the answers differ; nothing is compared")
    times: dict[str, list[tuple[float, float]]] = {"endpoint": [], "AsyncOpenAI": []}
    for number in range(options.rounds):
        turn = [("endpoint", ours), ("AsyncOpenAI", openai)]
        answers = []
        for name, client in turn if number % 2 else turn[::-1]:
            wall, cpu, found = measure(client, url, rows, flight)
            times[name].append((len(rows) / wall, cpu / len(rows) * 1e6))
            answers.append(found)
        if answers[0] != answers[1]:
            sys.exit("the answers differ; nothing is compared")
    show(times, options)


def show(times: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "openai"))
    print(f"Python {platform.python_version()}, {packages}; {platform.machine()}; ", end="")
    print(f"{options.rounds} rounds in turns of {options.requests} requests, ", end="")
    print(f"{options.flight} in flight; median (smallest to largest).\n")
    print("| client | requests/s (wall) | CPU microseconds per request |\n|---|---:|---:|")
    for name, rounds in times.items():
        print(f"| {name} | {spread([r for r, _ in rounds])} | {spread([c for _, c in rounds])} |")
    pairs = zip(times["AsyncOpenAI"], times["endpoint"], strict=True)
    ratios = [theirs[1] / our[1] for theirs, our in pairs]
    print(f"\nCPU of AsyncOpenAI / CPU of endpoint: {spread(ratios, 2)}")


def spread(values: list[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    main()
