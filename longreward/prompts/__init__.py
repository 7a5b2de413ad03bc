"""The judge's prompts: one .txt per prompt and language, filled in one pass with neutralised material.

Every text puts its fixed part first, then the document's part, then the question, and the answer or statement last,
so that a judge server's prefix cache serves all calls on one document.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Literal

from longreward.prompts.injection_defence import neutralise

Language = Literal["en", "zh"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
NAMES = ("helpfulness", "logicality", "statements", "verify", "verify_many", "extract", "completeness")
"""The reward's prompts."""
EVALUATION_NAMES = ("evaluate_qa", "evaluate_summary", "evaluate_chat", "evaluate_pair")
"""The prompts of `longreward.evaluation`, which no reward depends on."""
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def render(name: str, language: Language, /, **fields: str) -> str:
    """Fill a prompt with neutralised fields, all in one pass: a field's value is never searched for placeholders.

    ValueError for an unknown prompt or language and for missing or unknown fields, naming them.
    """
    template, wanted = _template(name, language)
    missing, unknown = sorted(wanted - fields.keys()), sorted(fields.keys() - wanted)
    if missing or unknown:
        wrong = [f"{kind} {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ValueError(f"prompt {name!r} needs the fields {', '.join(sorted(wanted))}: {'; '.join(wrong)}")
    return _PLACEHOLDER.sub(lambda match: neutralise(fields[match[1]]), template)


@cache
def _template(name: str, language: str) -> tuple[str, frozenset[str]]:
    known = (*NAMES, *EVALUATION_NAMES)
    if name not in known or language not in LANGUAGES:
        raise ValueError(f"no prompt {name!r} in {language!r}; prompts: {', '.join(known)} in {', '.join(LANGUAGES)}")
    text = resources.files(__name__).joinpath(language, f"{name}.txt").read_text(encoding="utf-8").strip()
    return text, frozenset(_PLACEHOLDER.findall(text))


def _version(names: tuple[str, ...] = NAMES) -> str:
    texts = (f"{name}.{language}\0{_template(name, language)[0]}\0" for name in names for language in LANGUAGES)
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


VERSION: str = _version()
"""Changes with any text of the reward's prompts; part of their cache keys and of what a score was made with."""
EVALUATION_VERSION: str = _version(EVALUATION_NAMES)
"""The same of the evaluations' prompts: changing one of those leaves scores and verdicts of the reward as they are."""
