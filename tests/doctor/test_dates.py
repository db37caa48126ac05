"""Templates that write the date: found by rendering on two days, and held still by chat.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.doctor.doctor_tokenizers import checks
from tests.tiny_models import tiny_tokenizer

from fusechat.doctor.dates import clock, dates, depends_on_day, raw_text

FIXED = (
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{{ bos_token + 'Today Date: ' + date_string }}"
    "{% for m in messages %}{{ m.role + ': ' + m.content + '<|eot_id|>' }}{% endfor %}"
)
TODAY = FIXED.replace("'26 Jul 2024'", "strftime_now('%d %b %Y')")
STUBBORN = (
    "{% set now = strftime_now %}{{ bos_token + 'Day ' + now('%j') }}"
    "{% for m in messages %}{{ m.role + ': ' + m.content + '<|eot_id|>' }}{% endfor %}"
)


def test_the_clock_of_templates_can_be_set() -> None:
    tokenizer = tiny_tokenizer("llama", TODAY)
    with clock(datetime(2030, 5, 17)):
        assert "17 May 2030" in raw_text(tokenizer)
    assert "17 May 2030" not in raw_text(tokenizer)


@pytest.mark.parametrize(("template", "raw"), [(FIXED, False), (TODAY, True), (STUBBORN, True)])
def test_fusechats_own_rendering_never_changes_with_the_day(template: str, raw: bool) -> None:
    assert depends_on_day(tiny_tokenizer("llama", template)) == (raw, False)


@pytest.mark.parametrize(
    ("template", "served", "expected"),
    [
        (TODAY, False, {"note:date-fixed"}),
        (TODAY, True, {"warning:date-in-prompt"}),
        (FIXED, False, {"note:date-fixed"}),
        (FIXED, True, {"note:date-fixed"}),
        (FIXED.replace("Today Date: ", "").replace("date_string", "word"), True, set()),
    ],
)
def test_a_dated_template_is_a_warning_where_a_server_renders(
    template: str, served: bool, expected: set[str]
) -> None:
    assert checks(dates(tiny_tokenizer("llama", template), served)) == expected


def test_a_date_that_fusechat_did_not_hold_still_would_be_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fusechat import chat

    def unfixed(tokenizer: Any, messages: Any, generation_prompt: bool = False) -> str:
        return raw_text(tokenizer)

    monkeypatch.setattr(chat, "template_text", unfixed)
    assert checks(dates(tiny_tokenizer("llama", TODAY), False)) == {"fault:date-in-prompt"}
    assert checks(dates(tiny_tokenizer("llama", FIXED), False)) == {"note:date-fixed"}


def test_the_mend_of_a_served_date_names_the_setting() -> None:
    (found,) = dates(tiny_tokenizer("llama", TODAY), served=True)
    assert 'chat_template_kwargs: {date_string: "26 Jul 2024"}' in found.mend


def test_a_date_that_the_recipe_tells_the_server_is_held_still() -> None:
    tokenizer = tiny_tokenizer("llama", TODAY)
    told = {"date_string": "26 Jul 2024"}
    assert checks(dates(tokenizer, served=True, extra=told)) == {"note:date-fixed"}
    assert checks(dates(tokenizer, served=True, extra={"other": 1})) == {"warning:date-in-prompt"}
