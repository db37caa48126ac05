"""Asks servers: one group of samples at a time, wherever there is room, until all are answered."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import aiohttp

from fusechat.errors import SourceError
from fusechat.records import Request, Response
from fusechat.sources import _endpoint_status as status
from fusechat.sources._endpoint_pace import Lane, backoff, choose
from fusechat.sources._endpoint_wire import (
    Answer,
    UnusableError,
    WrongModelError,
    body_of,
    read_answer,
)

if TYPE_CHECKING:
    from fusechat.sources.endpoint import Endpoint

Give = Callable[[Sequence[Response]], None]
ODD_ANSWERS = 3
"""So many failed answers in a row, and a server is set aside for a while."""
LOOK_SECONDS = 10.0


class GivenUpError(SourceError):
    """No server will do, so no row is at fault: the source stops, and goes on when it is mended."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"the source '{model}' stops: {reason}. Rows without an answer are kept as such, "
            "none is lost: mend it, and the same run goes on from here."
        )


class Client:
    """The servers of one part, as seen from one event loop."""

    def __init__(self, part: Endpoint, key: str | None) -> None:
        self.part, self._key = part, key
        as_json = json.dumps(key)[1:-1] if key else ""
        self._secret = {f for f in (key, as_json, as_json.replace("/", "\\/")) if f}
        """The key as a server may echo it, also inside JSON."""
        self.lanes = [Lane(url, part.concurrency) for url in part.base_urls]
        self.counts: Counter[str] = Counter()
        self.fingerprints: Counter[str] = Counter()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._lost_since: float | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connections' pool."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=self.part.request_timeout, sock_connect=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @property
    def most_samples(self) -> int:
        """Samples that go into one request; one where no server knows `n`, or seeds are listed."""
        if self.part.seeds is not None or all(lane.ignores_n for lane in self.lanes):
            return 1
        return self.part.samples_per_request

    async def look(self) -> dict[str, Any]:
        """What each server says of its models; also refuses servers that refuse the key."""
        found = await asyncio.gather(*(self._listing(lane) for lane in self.lanes))
        return dict(zip((lane.url for lane in self.lanes), found, strict=True))

    async def answer(self, group: Sequence[Request], give: Give) -> None:
        """Answer one prompt's adjacent samples, each with a row, given as soon as it is there.

        Raises `GivenUpError` where no server will do.
        """
        due, tries, avoid = list(group), 0, None
        limited_since: float | None = None
        while due:
            lane = await self._take(avoid)
            sent, asked = time.monotonic(), due[:1] if lane.ignores_n else due
            try:
                answer = await self._ask(lane, asked)
            except status.LimitedError as error:
                self._limited(lane, error, sent)
                limited_since = sent if limited_since is None else limited_since
                if time.monotonic() - limited_since > self.part.wait_for_limits:
                    raise GivenUpError(self.part.model, _LIMITED) from error
            except status.RefusedError as error:
                details = json.dumps({"said": error.said}) if error.said else None
                give([row.response("", "error", error=str(error), details=details) for row in due])
                return
            except (status.WrongServerError, WrongModelError) as error:
                lane.refuse(str(error), time.monotonic())
                self.counts["wrong_server"] += 1
            except status.UnreachableError as error:
                self._unreachable(lane, str(error))
                avoid = lane.url
            except (status.FailedError, UnusableError) as error:
                self._failed(lane, error, sent)
                tries, avoid = tries + 1, lane.url
                if tries > self.part.retries:
                    give([row.failure(str(error)) for row in due])
                    return
                await self._rest(tries)
            else:
                self._good(lane, answer, len(asked))
                give(answer.rows)
                due, tries, limited_since = answer.due + due[len(asked) :], 0, None
            finally:
                lane.flying -= 1
                self._wake(2)

    async def _take(self, avoid: str | None) -> Lane:
        """Wait for room at a server; raises `GivenUpError` where none will do."""
        while True:
            now = time.monotonic()
            self._mark_lost(now)
            lane = choose(self.lanes, now, avoid)
            if lane is not None:
                lane.flying += 1
                return lane
            if all(now < lane.refused_until for lane in self.lanes):
                raise GivenUpError(self.part.model, self.lanes[0].reason)
            if self._lost_since is not None and now - self._lost_since >= self.part.give_up_after:
                reason = next(lane.reason for lane in self.lanes if lane.lost(now))
                said = f"no server was there for longer than give_up_after: {reason}"
                raise GivenUpError(self.part.model, said)
            await self._wait(now)

    def _mark_lost(self, now: float) -> None:
        if not all(lane.lost(now) for lane in self.lanes):
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = now

    async def _wait(self, now: float) -> None:
        """Until a request has ended or a server opens again, whichever is first."""
        opens = [lane.opens() - now for lane in self.lanes if lane.opens() > now]
        if self._lost_since is not None:
            opens.append(max(0.0, self._lost_since + self.part.give_up_after - now))
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.001, min(opens)) if opens else None):
                await waiter
        except TimeoutError:
            self._wake(0)
        finally:
            waiter.cancel()

    def _wake(self, count: int) -> None:
        """Wake so many that wait, and forget those that do no more."""
        while self._waiters and (count or self._waiters[0].done()):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    async def _ask(self, lane: Lane, asked: Sequence[Request]) -> Answer:
        body = json.dumps(body_of(self.part, asked[0], len(asked)), ensure_ascii=False)
        self.counts["requests"] += 1
        code, headers, text = await self._fetch("POST", lane.url + "/chat/completions", body)
        if code == 404:
            raise await self._not_found(lane, text)
        if error := status.meaning(code, headers, text, self.part.api_key_env):
            raise error
        found = _parsed(text, headers)
        if isinstance(found, dict) and found.get("error") and not found.get("choices"):
            raise status.FailedError(f"the server answers with an error: {status.message_of(text)}")
        return read_answer(self.part, asked, found)

    async def _fetch(
        self, method: str, url: str, body: str | None = None, seconds: float | None = None
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text, the key taken out of it; failures as this module's own."""
        assert self._session is not None
        options: dict[str, Any] = {"allow_redirects": False}
        if seconds is not None:
            options["timeout"] = aiohttp.ClientTimeout(total=seconds)
        data = None if body is None else body.encode("utf-8", "replace")
        try:
            async with self._session.request(method, url, data=data, **options) as answer:
                raw = await answer.read()
                return answer.status, answer.headers, self._clean(raw.decode("utf-8", "replace"))
        except aiohttp.ConnectionTimeoutError as error:
            raise status.UnreachableError("the server does not take connections") from error
        except TimeoutError as error:
            raise status.FailedError("no answer within request_timeout", slow=True) from error
        except aiohttp.ClientSSLError as error:
            raise status.WrongServerError("the server's certificate is not trusted") from error
        except aiohttp.ClientConnectorError as error:
            raise status.UnreachableError("no connection to the server") from error
        except aiohttp.ClientPayloadError as error:
            raise status.FailedError("the server's answer was cut") from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            raise status.FailedError("the server closed the connection") from error
        except aiohttp.ClientError as error:
            name = type(error).__name__
            raise status.FailedError(f"the server's answer is no HTTP ({name})") from error

    def _clean(self, text: str) -> str:
        for form in self._secret:
            text = text.replace(form, "***")
        return text

    async def _not_found(self, lane: Lane, text: str) -> Exception:
        listed = (await self._listing(lane)).get("models")
        if listed and self.part.model in listed:
            return status.RefusedError(f"the server knows no such call (404): {lane.url}")
        serves = f"it serves {', '.join(listed[:5])}" if listed else "see its /v1/models"
        return status.WrongServerError(
            f"no model '{self.part.model}' at the server, or no such path (404); {serves}"
        )

    async def _listing(self, lane: Lane) -> dict[str, Any]:
        """Names and context of what a server serves, so far as it says."""
        try:
            code, _, text = await self._fetch("GET", lane.url + "/models", seconds=LOOK_SECONDS)
        except (status.UnreachableError, status.FailedError):
            return {}
        except status.WrongServerError as error:
            lane.refuse(str(error), time.monotonic())
            return {}
        if code in (401, 403):
            error_of = status.meaning(code, {}, text, self.part.api_key_env)
            lane.refuse(str(error_of), time.monotonic())
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        data = found.get("data") if isinstance(found, dict) else found
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        out: dict[str, Any] = {"models": [str(row["id"]) for row in rows if row.get("id")]}
        for row in rows:
            if row.get("id") == self.part.model and isinstance(row.get("max_model_len"), int):
                out["context"] = row["max_model_len"]
        return out if out["models"] else {}

    def _good(self, lane: Lane, answer: Answer, asked: int) -> None:
        if lane.failures:
            self._wake(len(self._waiters))
        lane.good()
        self.counts["extra_choices"] += answer.extra
        if answer.fingerprint:
            self.fingerprints[answer.fingerprint] += len(answer.rows)
        if asked > 1 and len(answer.rows) == 1:
            lane.ignores_n = True

    def _limited(self, lane: Lane, error: status.LimitedError, sent: float) -> None:
        self.counts["limited"] += 1
        jitter = random.random()
        lane.close(error.seconds, sent, time.monotonic(), jitter, self.part.backoff)

    def _unreachable(self, lane: Lane, reason: str) -> None:
        self.counts["unreachable"] += 1
        lane.fail(reason, time.monotonic(), random.random(), self.part.backoff)

    def _failed(self, lane: Lane, error: Exception, sent: float) -> None:
        self.counts["failed"] += 1
        now = time.monotonic()
        if getattr(error, "slow", False):
            lane.slow_down(sent, now)
        lane.odd += 1
        if lane.odd >= ODD_ANSWERS:
            lane.fail(str(error), now, random.random(), self.part.backoff)

    async def _rest(self, tries: int) -> None:
        await asyncio.sleep(backoff(tries - 1, self.part.backoff) * random.uniform(0.5, 1.0))


_LIMITED = "rate limited for longer than wait_for_limits"


def _parsed(text: str, headers: Mapping[str, str]) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        kind = headers.get("Content-Type", "no type").split(";")[0][:40]
        raise UnusableError(f"the server's answer is not JSON ({kind})") from error
