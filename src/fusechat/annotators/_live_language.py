"""LiveBench's language tasks: connections, plot_unscrambling and typos."""

from __future__ import annotations

import difflib
import re

from fusechat.annotators._live_question import Graded, Question, edit_distance, last_boxed


def connections(question: Question, response: str) -> Graded:
    """The share of the true groups of four words that are found in one list of the response.

    A list is what stands in bold on one line, cut at commas into fours; the best list counts.
    Case and blanks do not matter, nor the order within a group. Questions from 2024-11-25 on ask
    for the list in `<solution>` tags.
    """
    if question.release >= "2024-11-25":
        lists = _tagged(question, response)
    else:
        lists = [text.split(",") for text in re.findall(r"\*\*(.*?)\*\*", response)]
    if not lists:
        return Graded(0.0)
    truth = _groups(question.answer.split(","))
    shares = [sum(group in _groups(words) for group in truth) / len(truth) for words in lists]
    best = max(shares)
    return Graded(best, ",".join(lists[shares.index(best)]))


def _groups(words: list[str]) -> list[frozenset[str]]:
    clean = [word.strip().lower() for word in words]
    return [frozenset(clean[i : i + 4]) for i in range(0, len(clean), 4)]


def _tagged(question: Question, response: str) -> list[list[str]]:
    flat = response.replace("\n", "")
    tags: list[str] = []
    for pattern in (r"<solution>(.*?)</solution>", r"</solution>(.*?)</solution>"):
        tags = tags or re.findall(pattern, response) or re.findall(pattern, flat)
    box = None if tags else last_boxed(response)
    if box is not None:
        tags = [box.replace("\\text{", "").replace("}", "").replace("\\", "").replace("\n", "")]
    words = [word for tag in tags for word in tag.split(",")]
    return [words[-len(question.answer.split(",")) :] if len(tags) > 1 else words] if tags else []


def plot_unscrambling(question: Question, response: str) -> Graded:
    """1 - edit distance of the order of the sentences / number of true sentences.

    Read is what follows the first `<PLOT_SUMMARY>`, or else all. A sentence ends at a full stop.
    Each true sentence is looked for as the likest of the response's (`difflib`, any likeness).
    """
    _, tag, rest = response.partition("<PLOT_SUMMARY>")
    truth, given = _sentences(question.answer), _sentences(rest if tag else response)
    order: list[int] = []
    unlike = list(dict.fromkeys(given))
    for sentence in truth:
        near = difflib.get_close_matches(sentence, unlike, n=1, cutoff=0.0)
        order.extend(given.index(one) for one in near)
    if not order:
        return Graded(0.0)
    share = 1 - edit_distance(range(len(truth)), order) / len(truth)
    return Graded(share, ", ".join(map(str, order)))


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in text.split(".") if sentence.strip()]


def typos(question: Question, response: str) -> Graded:
    """Whether the last line that is not empty holds the true text, letter for letter."""
    lines = [line for line in response.split("\n") if line]
    if not lines:
        return Graded(0.0)
    return Graded(float(question.answer in lines[-1]), lines[-1])
