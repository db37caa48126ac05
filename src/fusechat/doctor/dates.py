"""Templates that write the day on which they are rendered: another prompt every day.

Seen in the wild: Llama-3.2's template writes today's date (`strftime_now`) into every system
turn, and servers whose templates do so for Llama-3.1, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from fusechat import chat
from fusechat.doctor.findings import Finding

_CLOCK = re.compile(r"strftime_now|date_string|today date|current date|datetime", re.IGNORECASE)
_DAYS = (datetime(2024, 2, 29, 9, 30), datetime(2031, 12, 1, 18, 45))
_USER = [{"role": "user", "content": "What day is it?"}]


@contextmanager
def clock(day: datetime) -> Iterator[None]:
    """While open, templates that ask for the time (`strftime_now`) are told this one."""
    from transformers.utils import chat_template_utils

    class Fixed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return day

    real = chat_template_utils.datetime
    chat_template_utils.datetime = Fixed
    try:
        yield
    finally:
        chat_template_utils.datetime = real


def raw_text(tokenizer: Any, extra: Mapping[str, Any] | None = None) -> str:
    """What any tool gets from the template, without fusechat's fixed day.

    `extra`: the template's own arguments, as a server is sent them (`chat_template_kwargs`).
    Raises `ChatTemplateError` where the template refuses a plain question.
    """
    from jinja2.exceptions import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                _USER, tokenize=False, add_generation_prompt=True, **(extra or {})
            )
        )
    except (TemplateError, TypeError) as error:
        name = tokenizer.name_or_path
        raise chat.ChatTemplateError(
            f"the chat template of {name} refuses this conversation: {error}."
        ) from error


def depends_on_day(tokenizer: Any, extra: Mapping[str, Any] | None = None) -> tuple[bool, bool]:
    """Whether the template's text changes with the day: as other tools render, and as we do."""
    raw, ours = set(), set()
    for day in _DAYS:
        with clock(day):
            raw.add(raw_text(tokenizer, extra))
            ours.add(chat.template_text(tokenizer, _USER, generation_prompt=True))
    return len(raw) > 1, len(ours) > 1


def dates(
    tokenizer: Any, served: bool, extra: Mapping[str, Any] | None = None
) -> Iterator[Finding]:
    """Whether a prompt is another one tomorrow.

    `served`: prompts are rendered by a server, on its own day, not by fusechat; `extra` is what
    the server is told for its template.
    """
    raw, ours = depends_on_day(tokenizer, extra)
    day = f"{chat.DATE:%d %b %Y}"
    fix = f'extra_body: {{chat_template_kwargs: {{date_string: "{day}"}}}}'
    if ours:
        yield Finding(
            "fault", "date-in-prompt",
            "the template writes the day of rendering in a way that fusechat cannot hold still: "
            "sampling, training and evaluation on different days see different prompts.",
            f"Fix the date in the template itself, for example to {day}.",
        )  # fmt: skip
    elif raw and served:
        yield Finding(
            "warning", "date-in-prompt",
            "the template writes the day of rendering, and the server renders: a run that goes on "
            "tomorrow asks other prompts than today.",
            f"Where the template takes it, say {fix}; else serve with a template whose date is "
            "fixed (--chat-template).",
        )  # fmt: skip
    elif raw:
        yield Finding(
            "note", "date-fixed",
            f"the template writes the day of rendering; fusechat always gives it {day}, in "
            "sampling, training and evaluation alike.",
            f"Serve the trained model with the same day: {fix}.",
        )  # fmt: skip
    elif _CLOCK.search(tokenizer.get_chat_template()):
        yield Finding(
            "note", "date-fixed",
            "the template speaks of a date, which does not change with the day.",
        )  # fmt: skip
