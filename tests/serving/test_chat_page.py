"""The page of `fusechat chat --web`: who may ask, what is asked, and how it works in a browser."""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import Any

import pytest
from tests.serving.talking import TalkingEngine, page_of

from browser_page import chromium
from fusechat.serving.conversation import Sampling

HELLO = [{"role": "user", "content": "hello there"}]


def asked(
    port: int, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of an answer; `_` in a header's name is a dash."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        content = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, content, kind | named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.headers)
    finally:
        connection.close()


def fit(port: int, **fields: Any) -> tuple[int, Any]:
    body = {"system": "", "turns": HELLO, "max_new_tokens": 10} | fields
    status, text, _ = asked(port, "POST", "/fit/0", body)
    return status, json.loads(text)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "evil.test"}, "not called"),
        ({"Host": "127.0.0.1"}, "not called"),
        ({"Origin": "https://evil.test"}, "not answered"),
        ({"Origin": "null"}, "not answered"),
        ({"Origin": "http://127.0.0.1:1"}, "not answered"),
        ({"Sec_Fetch_Site": "cross-site"}, "another site"),
        ({"Sec_Fetch_Site": "same-site"}, "another site"),
        ({"Content_Type": "text/plain"}, "application/json"),
    ],
)
def test_what_another_site_can_send_is_refused(headers: dict[str, str], said: str) -> None:
    engine = TalkingEngine("m", "yes")
    with page_of(engine) as port:
        for path in ("/fit/0", "/models/0/v1/chat/completions"):
            body = {"model": "m", "messages": HELLO, "turns": HELLO, "max_new_tokens": 9}
            status, text, _ = asked(port, "POST", path, body, **headers)
            assert (status, said in text) == (403, True)
    assert engine.seen == []


def test_its_own_page_and_programs_are_answered() -> None:
    with page_of(TalkingEngine("m", "yes")) as port:
        for headers in (
            {},
            {"Origin": f"http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"},
            {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        ):
            body = {"model": "m", "messages": HELLO}
            path = "/models/0/v1/chat/completions"
            status, text, _ = asked(port, "POST", path, body, **headers)
            assert status == 200
            assert json.loads(text)["choices"][0]["message"]["content"] == "yes"


def test_a_link_of_another_site_opens_the_page_but_no_frame_shows_it() -> None:
    with page_of(TalkingEngine("m", "yes")) as port:
        status, _, headers = asked(port, "GET", "/", Sec_Fetch_Site="cross-site")
        assert status == 200
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_page_loads_nothing_and_shows_names_as_text() -> None:
    with page_of(TalkingEngine("</script><b>x</b>", "yes")) as port:
        _, html, headers = asked(port, "GET", "/")
    assert "<b>x</b>" not in html
    assert "default-src 'none'" in headers["content-security-policy"]
    (link,) = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert link == "data:,"


def test_a_conversation_that_does_not_fit_is_asked_without_its_oldest_turn() -> None:
    turns = [
        {"role": "user", "content": "w " * 10},
        {"role": "assistant", "content": "w " * 5},
        {"role": "user", "content": "w " * 4},
    ]
    with page_of(TalkingEngine("m", "yes", context=20)) as port:
        status, found = fit(port, turns=turns, system="be kind", max_new_tokens=50)
    assert status == 200
    assert found["dropped"] == 2
    assert "context of 20 tokens" in found["note"]
    assert [one["role"] for one in found["ask"]["messages"]] == ["system", "user"]
    assert found["ask"]["max_tokens"] == 20 - 6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"turns": []}, "turns must be"),
        ({"turns": [{"role": "system", "content": "x"}]}, "turns must be"),
        ({"turns": [*HELLO, {"role": "assistant", "content": "x"}]}, "must be the user's"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": True}, "max_new_tokens"),
        ({"system": 3}, "system"),
        ({"turns": [{"role": "user", "content": "w " * 1000}]}, "context of m is 1000"),
        ({"turns": [{"role": "user", "content": "refuse"}]}, "the template refuses it"),
    ],
)
def test_what_cannot_be_asked_is_said(fields: dict[str, Any], said: str) -> None:
    with page_of(TalkingEngine("m", "yes")) as port:
        status, found = fit(port, **fields)
    assert status == 400
    assert said in found["error"]["message"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_chat_in_a_browser(width: int) -> None:
    sft = TalkingEngine("train.sft", "<img src=x onerror=alert(1)>", "on and on...", "after")
    base = TalkingEngine("target", "no <b>bold</b>", "short", "last")
    with page_of(sft, base, sampling=Sampling(0.5, 0.9, 20, 7)) as port, chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.evaluate("document.activeElement.id") == "message"
        page.keyboard.type("one")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("line <i>two</i>")
        page.keyboard.press("Enter")
        page.locator("#send").wait_for(state="visible")
        texts = page.locator(".text").all_inner_texts()
        assert texts == ["<img src=x onerror=alert(1)>", "no <b>bold</b>"]
        assert page.locator(".yours").inner_text() == "one\nline <i>two</i>"
        assert page.locator(".turn img, .turn b, .turn i").count() == 0
        assert "target: no <b>bold</b>" in page.locator("#status").inner_text()

        page.keyboard.type("again")
        page.keyboard.press("Enter")
        page.get_by_text("more more").wait_for()
        page.get_by_text("short", exact=True).wait_for()
        page.keyboard.press("Escape")
        page.locator("#send").wait_for(state="visible")
        assert "stopped" in page.locator(".about").nth(2).inner_text()
        deadline = time.monotonic() + 20
        while not sft.jobs[1].cancelled and time.monotonic() < deadline:
            time.sleep(0.01)  # the server learns of it a moment later
        assert sft.jobs[1].cancelled
        assert [job.ask.seed for job in base.jobs] == [7, 8]
        assert [one["content"] for one in base.seen[-1]][1] == "no <b>bold</b>"

        boxes = [page.locator(".answer").nth(at).bounding_box() for at in (0, 1)]
        assert (boxes[0]["y"] == boxes[1]["y"]) == (width == 1280)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

        page.locator("summary").click()
        page.get_by_label("Temperature").fill("0")
        page.get_by_label("System message").fill("be kind")
        assert "greedy" in page.locator("summary").inner_text()
        page.get_by_role("button", name="New chat").click()
        assert page.locator(".turn").count() == 0
        page.get_by_label("Message", exact=True).fill("new")
        page.get_by_role("button", name="Send").click()
        page.locator("#send").wait_for(state="visible")
        assert [one["content"] for one in base.seen[-1]] == ["be kind", "new"]
        assert base.jobs[-1].ask.temperature == 0
        assert said == []


@pytest.mark.browser
def test_a_wrong_setting_is_shown_and_nothing_is_asked() -> None:
    engine = TalkingEngine("m", "yes")
    with page_of(engine) as port, chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("summary").click()
        page.get_by_label("Top-p").fill("2")
        page.locator("summary").click()
        page.get_by_label("Message", exact=True).fill("new")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "top_p"
        assert page.get_by_label("Top-p").is_visible()
    assert engine.jobs == []


@pytest.mark.browser
def test_a_refusal_and_turns_left_out_stand_in_the_answer() -> None:
    engine = TalkingEngine("m", "a b c d e", context=20)
    with page_of(engine, sampling=Sampling(max_new_tokens=5)) as port, chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        for text in ("v w x y z", "v w x y z", "v w x y z", "please refuse this"):
            page.get_by_label("Message", exact=True).fill(text)
            page.keyboard.press("Enter")
            page.locator("#send").wait_for(state="visible")
        notes = page.locator(".note").all_inner_texts()
    assert notes == [
        "the conversation no longer fits the context of 20 tokens: the oldest turn is left out of "
        "what the model sees.",
        "the template refuses it",
    ]
