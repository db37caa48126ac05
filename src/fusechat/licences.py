"""Under which licence models are published, and what it says of training on their outputs.

A small table of facts, as the licence texts and model cards said when it was written (November
2026); the origin of each is in its `origin`. It helps to ask the right question early, and is no
legal advice: the licence that came with your copy of a model is what counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Outputs = Literal["allowed", "conditions", "non-commercial", "forbidden"]
"""May outputs be used to train other models: freely; with duties; for research only; or not."""
NO_ADVICE = "This is a table of facts, and no legal advice; the licence text itself counts."


@dataclass(frozen=True)
class Licence:
    """One licence, as far as outputs and the models trained on them are concerned."""

    tag: str
    """As in a model card: the hub's `license`, or `license_name` where that is `other`."""
    name: str
    outputs: Outputs
    says: str
    """What it says of outputs, in one sentence."""
    duties: tuple[str, ...]
    """What the maker of a model trained on outputs has to do."""
    origin: str
    """Where it is said."""

    @property
    def prefix(self) -> str | None:
        """How the name of a model trained on outputs must begin; None where it is free."""
        return "Llama" if any('begins with "Llama' in duty for duty in self.duties) else None


_LLAMA_DUTIES = (
    'show "Built with Llama" prominently',
    'give the trained model a name that begins with "Llama"',
)
_QWEN_DUTIES = ('show "Built with Qwen" or "Improved using Qwen" in the documentation',)
_LLAMA_SAYS = "outputs may improve other models, which then carry Llama's name"
_LLAMA_SECTION = "Community License Agreement, section 1.b.i"
_NO_OTHER_MODEL = "outputs may not be used to improve any other large language model"
_NO_RIVAL = "outputs may not be used to develop models that compete with the provider's"


def _llama(version: str) -> Licence:
    name = f"Llama {version} Community License"
    origin = f"Llama {version} {_LLAMA_SECTION}"
    return Licence(f"llama{version}", name, "conditions", _LLAMA_SAYS, _LLAMA_DUTIES, origin)


_TABLE = (
    Licence("apache-2.0", "Apache License 2.0", "allowed", "says nothing of outputs", (),
            "apache.org/licenses/LICENSE-2.0"),
    Licence("mit", "MIT License", "allowed", "says nothing of outputs", (),
            "opensource.org/license/mit; DeepSeek-R1's card names distillation as allowed"),
    _llama("3.1"), _llama("3.2"), _llama("3.3"), _llama("4"),
    Licence("llama3", "Llama 3 Community License", "forbidden",
            f"{_NO_OTHER_MODEL} (Llama 3 and what derives from it excepted)",
            ('show "Built with Meta Llama 3"', 'a model that derives from Llama 3 has a name that '
             'begins with "Llama 3"'),
            "Meta Llama 3 Community License Agreement, sections 1.b.i and 1.b.v"),
    Licence("llama2", "Llama 2 Community License", "forbidden",
            f"{_NO_OTHER_MODEL} (Llama 2 and what derives from it excepted)", (),
            "Llama 2 Community License Agreement, section 1.b.v"),
    Licence("gemma", "Gemma Terms of Use", "conditions",
            "Google claims no rights in outputs; a model made to perform like Gemma by training on "
            "them is a Model Derivative",
            ("pass the use restrictions of section 3.2 and a copy of the terms on with a model "
             "derivative",),
            "ai.google.dev/gemma/terms, sections 1.1(e), 3.1, 3.2 and 3.3"),
    Licence("mrl", "Mistral Research License", "non-commercial",
            "models, derivatives and outputs only for research and individual, not commercial, use",
            ("ask Mistral AI for a commercial licence before any commercial use",),
            "mistral.ai/licenses/MRL-0.1.md, sections 2 and 3.2"),
    Licence("mnpl", "Mistral AI Non-Production License", "non-commercial",
            "models, derivatives and outputs only for tests, research and evaluation",
            ("ask Mistral AI for a commercial licence before any production use",),
            "mistral.ai/licenses/MNPL-0.1.md, section 3.2"),
    Licence("qwen", "Qwen License Agreement", "conditions",
            "outputs may train other models, which then say so", _QWEN_DUTIES,
            "LICENSE of Qwen/Qwen2.5-72B-Instruct (2024-09-19), section 4"),
    Licence("qwen-research", "Qwen Research License Agreement", "non-commercial",
            "materials only for research and evaluation; models trained on outputs say so",
            (*_QWEN_DUTIES, "ask Alibaba Cloud for a licence before any commercial use"),
            "LICENSE of Qwen/Qwen2.5-3B-Instruct (2024-09-19), sections 2 and 4"),
    Licence("tongyi-qianwen", "Tongyi Qianwen License Agreement", "forbidden",
            f"{_NO_OTHER_MODEL} (Tongyi Qianwen and what derives from it excepted)", (),
            "LICENSE of Qwen/Qwen2-72B-Instruct and of the first Qwen, rules of use"),
    Licence("deepseek", "DeepSeek License Agreement", "conditions",
            "DeepSeek claims no rights in outputs; distillation makes a derivative",
            ("pass the use restrictions of attachment A on with a derivative",),
            "LICENSE-MODEL of deepseek-ai/DeepSeek-V2 and DeepSeek-V3, sections 1, 4, 5 and 6"),
    Licence("cc-by-nc-4.0", "CC BY-NC 4.0", "non-commercial",
            "only for purposes that are not commercial", ("name the author",),
            "creativecommons.org/licenses/by-nc/4.0; Cohere adds an acceptable-use addendum"),
    Licence("openai-terms", "OpenAI terms of use", "forbidden", _NO_RIVAL, (),
            "openai.com/policies: Terms of Use, 'What you cannot do'; business terms likewise"),
    Licence("anthropic-terms", "Anthropic commercial terms", "forbidden", _NO_RIVAL, (),
            "anthropic.com/legal/commercial-terms, section D.4"),
    Licence("gemini-terms", "Gemini API additional terms", "forbidden", _NO_RIVAL, (),
            "ai.google.dev/gemini-api/terms, 'Use restrictions'"),
)  # fmt: skip
LICENCES = {licence.tag: licence for licence in _TABLE}
_ALIASES = {
    "llama-3.1": "llama3.1", "llama-3.2": "llama3.2", "llama-3.3": "llama3.3", "llama-4": "llama4",
    "llama4": "llama4", "llama-3": "llama3", "llama-2": "llama2",
    "mistral-ai-research-license": "mrl", "mrl-0.1": "mrl", "mnpl-0.1": "mnpl",
    "mistral-ai-non-production-license": "mnpl",
    "tongyi-qianwen-license-agreement": "tongyi-qianwen",
    "tongyi-qianwen-research": "qwen-research",
    "qwen-license": "qwen", "deepseek-license": "deepseek", "gemma-terms-of-use": "gemma",
}  # fmt: skip

_FAMILIES = tuple(
    (re.compile(pattern), tag)
    for pattern, tag in (
        (r"deepseek-r1-distill-llama-70b", "llama3.3"),  # its card: derived from Llama-3.3-70B
        (r"deepseek-r1-distill-llama", "llama3.1"),  # its card: derived from Llama-3.1-8B
        (r"deepseek-(r1|v3-0324|v3\.[1-9]|v4)", "mit"),  # their cards
        (r"deepseek-(coder|v2|v3|llm|math|prover)", "deepseek"),  # their LICENSE-MODEL
        (r"llama-?3[.-]1(?!\d)|tulu-3", "llama3.1"),
        (r"llama-?3[.-]2(?!\d)", "llama3.2"),
        (r"llama-?3[.-]3(?!\d)", "llama3.3"),
        (r"llama-?4(?!\d)", "llama4"),
        (r"llama-?3(?![.\d])", "llama3"),
        (r"llama-?2(?![.\d])", "llama2"),
        (r"gemma-?4(?!\d)", "apache-2.0"),  # the first Gemma under Apache 2.0, April 2026
        (r"gemma-?(1|2|3|7b)|(code|recurrent|shield|med)gemma", "gemma"),
        # Cards on the hub: the large and some small models are under the research licence,
        # everything else that has public weights is under Apache 2.0.
        (r"codestral(?!-mamba)", "mnpl"),
        (r"mistral-large(?!-3)|pixtral-large|mistral-small-(2402|2409)|mistral-small-instruct-2409"
         r"|ministral-8b-instruct-2410", "mrl"),
        (r"mistral-(7b|nemo|small|large-3)|mixtral|mathstral|magistral-small|devstral-small|ministral-3",
         "apache-2.0"),
        (r"qwen-?2\.5-(math-)?72b", "qwen"),
        (r"qwen-?2\.5-(coder-)?3b(?!\d)", "qwen-research"),
        (r"qwen-?2\.5-(math-|coder-)?(0\.5|1\.5|7|14|32)b", "apache-2.0"),
        (r"qwen-?2-(math-)?72b", "tongyi-qianwen"),
        (r"qwen-?2-(math-)?(0\.5|1\.5|7|57)b", "apache-2.0"),
        (r"qwen-?3(?!\d)(?!.*(-max|-plus|-turbo))|qwq-32b", "apache-2.0"),
        (r"gpt-oss", "apache-2.0"),
        (r"(^|/)(gpt-[345]|chatgpt|o[134](-|$))", "openai-terms"),
        (r"(^|/)claude-", "anthropic-terms"),
        (r"(^|/)gemini-", "gemini-terms"),
        (r"(^|/)phi-(3|3\.5|4)(-|$)", "mit"),
        (r"command-r|aya-(expanse|23)", "cc-by-nc-4.0"),
        (r"olmo-2|smollm|granite-[34]", "apache-2.0"),
        (r"(^|/)glm-4\.[5-7]", "mit"),
    )
)  # fmt: skip


def licence_of(name: str) -> Licence | None:
    """The licence of a model, by its hub name or the name under which it is served.

    `meta-llama/Llama-3.1-70B-Instruct`, `llama-3.1-70b` and `Meta-Llama-3.1-70B` are one model
    here. Versions matter: Llama 3 and Llama 3.1 say opposite things of outputs. None where the
    table does not know the model: look at its card.
    """
    lower = name.lower().replace("_", "-")
    for pattern, tag in _FAMILIES:
        if pattern.search(lower):
            return LICENCES[tag]
    return None


def licence_tagged(tag: str) -> Licence | None:
    """The licence of a model card's `license` or `license_name`; None for one not in the table."""
    lower = tag.strip().lower().replace(" ", "-").replace("_", "-")
    return LICENCES.get(_ALIASES.get(lower, lower))


def licence_in_folder(folder: str | Path) -> str | None:
    """The licence tag that the card (README.md) in a model folder gives; None where it has none."""
    card = Path(folder) / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    try:
        fields: Any = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
        return None
    if not isinstance(fields, dict):
        return None
    tag = fields.get("license")
    if tag in (None, "other"):
        tag = fields.get("license_name") or tag
    return tag if isinstance(tag, str) else None
