"""What to do about a question that failed: by the reason, and by what the endpoint said.

Providers and servers are known by their words. The first row of a reason whose words are in the detail counts; the last
one has none and is for all others.
"""

from __future__ import annotations

import re

from longreward.errors import Reason

_LONGER_CONTEXT = ", as an extraction takes some 7,000 tokens, or lower chunking.extraction_tokens"
_PATHS = (
    "/v1 with most servers, /v1beta/openai with Gemini, /api/v1 with OpenRouter and Bedrock's gateway, /api/paas/v4 "
    "with Zhipu, /compatible-mode/v1 with DashScope, /openai/deployments/NAME?api-version=... with Azure"
)
_NO_DISTRIBUTION = (
    "where the endpoint gives no probabilities, set judge.verdict=written with judge.votes=5 and "
    "judge.temperature=0.7, or use another, such as vLLM, SGLang, llama.cpp or OpenAI"
)
_NO_VOTES = "set judge.votes=1, or use an endpoint that takes `n`, such as vLLM, SGLang or OpenAI"
_ROWS: dict[Reason, tuple[tuple[str, str], ...]] = {
    Reason.UNAUTHORIZED: (
        (
            "subscription key",
            "Azure takes the key alone in a header of its own: set judge.api_key_header=api-key, and check that the "
            "key in judge.api_key_env is that of the resource in judge.base_url",
        ),
        (
            "access to the model|not authorized to perform|permission denied",
            "ask for access to this model in the provider's console, or set judge.model to one that the key may use",
        ),
        ("", "check the key and judge.api_key_env (Azure wants judge.api_key_header=api-key too)"),
    ),
    Reason.QUOTA: (
        (
            "fewer max_tokens|can only afford",
            "check the account behind the key: top it up or raise the key's own limit. A lower judge.max_tokens needs "
            "less credit: the provider counts the longest reply that may come",
        ),
        (
            "balance|credit|arrears|overdue|good standing|余额|充值|欠费|suspended",
            "check the account behind the key: top up its balance, or use the key of another",
        ),
        ("", "check the account behind the key: its balance, its plan, and the limit of the key itself"),
    ),
    Reason.NOT_FOUND: (
        (
            "deployment",
            "with Azure judge.base_url ends in /openai/deployments/NAME?api-version=..., where NAME is the name of the "
            "deployment, not of the model; one that is new needs a few minutes",
        ),
        (
            "inference profile|on-demand throughput",
            "set judge.model to the ID of an inference profile that has this model, such as us.NAME or eu.NAME",
        ),
        (
            "model identifier is invalid|models API",
            "set judge.model to a model ID of Bedrock that the gateway lists at /models, in its region",
        ),
        ("try pulling", "run `ollama pull` with this name on the server, or set judge.model to one of `ollama list`"),
        (
            "data policy|no endpoints found|allowed providers",
            "allow a provider of this model in OpenRouter's privacy settings, or set judge.model to another",
        ),
        ("model|模型", "set judge.model to a name that the server lists at /models and that the key may use"),
        ("", f"the server has no such path; check judge.model, and judge.base_url, which ends in {_PATHS}"),
    ),
    Reason.BAD_REQUEST: (
        ("api.version", "set ?api-version= in judge.base_url to one that Azure serves, such as 2024-10-21"),
        (
            "enable_thinking",
            "the provider thinks in streams only: set judge.extra_body={enable_thinking: false}, or use another model",
        ),
        ("template", "serve a model with a chat template (its instruct version), or give the server a template"),
        ("location is not supported|region", "use an endpoint that serves the region of this machine"),
        ("logprobs", _NO_DISTRIBUTION),
        (
            r"\bn\b.{0,20}(?:>|must be|greater|support)|multiple (?:choices|completions|candidates)",
            _NO_VOTES,
        ),
        (
            "response_format|json_schema|structured.output|grammar",
            "where the server takes no response_format, set judge.verdict=written or use another server",
        ),
        (
            "unsupported|not support|unrecognized|unknown|extra_forbidden|not permitted|not allowed",
            "change what it does not take, in judge.extra_body: null there leaves a field out, judge.temperature=null "
            "the temperature",
        ),
        ("", "check judge.model and judge.extra_body"),
    ),
    Reason.CONTEXT_LENGTH: (
        (
            "available context size",
            f"serve the judge with a longer context: llama.cpp's -c, divided by its --parallel{_LONGER_CONTEXT}",
        ),
        (
            "max_new_tokens",
            f"serve the judge with a longer context: TGI's --max-input-tokens and --max-total-tokens{_LONGER_CONTEXT}",
        ),
        (
            "longer than the model's context",
            f"serve the judge with a longer context: SGLang's --context-length{_LONGER_CONTEXT}",
        ),
        (
            "without a word|input length exceeds",
            f"serve the judge with a longer context: OLLAMA_CONTEXT_LENGTH, or LM Studio's setting{_LONGER_CONTEXT}",
        ),
        (
            "",
            "serve the judge with a longer context (vLLM: --max-model-len, SGLang: --context-length, llama.cpp: "
            f"-c, Ollama: OLLAMA_CONTEXT_LENGTH, TGI: --max-total-tokens) or use a model that has one{_LONGER_CONTEXT}",
        ),
    ),
    Reason.FILTERED: (
        (
            "content management|responsible",
            "set a milder content filter for the deployment in Azure, or use an endpoint without a content filter",
        ),
        ("guardrail", "take the guardrail out of the gateway, or use an endpoint without a content filter"),
        (
            "judge refuses",
            "use a judge that does not refuse such material, or judge.extra_body to set its safety level",
        ),
        ("", "use an endpoint or a model without a content filter"),
    ),
    Reason.RATE_LIMITED: (
        (
            "quota",
            "the account's plan allows so many requests and tokens a minute or a day: set judge.requests_per_minute "
            "and judge.tokens_per_minute below that, or use a larger plan",
        ),
        ("", "lower judge.max_in_flight, or set judge.requests_per_minute and judge.tokens_per_minute"),
    ),
    Reason.SERVER_ERROR: (
        ("loading", "wait until the server has loaded the model, and try again"),
        (
            "allowed providers|no available model provider",
            "allow a provider of this model in OpenRouter's settings, or set judge.model to another",
        ),
        ("overloaded|busy", "the server has too much to do: lower judge.max_in_flight, or try again later"),
        ("", "see the server's log, or the provider's status page"),
    ),
    Reason.BAD_RESPONSE: (
        ("prompt_logprobs", "serve the model with vLLM, or set judge.way=chat"),
        ("no score from 0 to 1", "serve a cross-encoder with a sigmoid by vLLM (/score), or set judge.way=chat"),
        ("though not asked for", "judge.base_url may also name the server itself, without the proxy"),
        (
            "may not be whole",
            "see what the provider means by this finish_reason: only a reply that the judge ended itself counts",
        ),
        ("is empty", "see the server's log; a model that reasons may need more judge.reasoning_tokens"),
        ("", "check that judge.base_url speaks the OpenAI API"),
    ),
    Reason.UNREACHABLE: (("", "check judge.base_url, and that the server runs"),),
    Reason.MISCONFIGURED: (("", "mend what it names, here or in the environment of this process"),),
    Reason.TIMEOUT: (("", "see whether the server is stuck or busy, or raise judge.attempt_timeout_s"),),
    Reason.TRUNCATED: (
        ("reasoning", "raise judge.reasoning_tokens, the room for what the judge thinks before it replies"),
        (
            "",
            "raise judge.max_tokens: the judge writes longer; or judge.reasoning_tokens for one that reasons. With "
            "judge.verdict=constrained small judges fill JSON with white space: docs/judge.md, Constrained verdicts",
        ),
    ),
    Reason.PARSE_ERROR: (
        ("way=yes_no", "set judge.way=chat, or serve the model with vLLM or SGLang, which give logprobs"),
        ("to Yes, No: it would say", "use a model that answers with one word, or set judge.way=chat"),
        ("logprobs", _NO_DISTRIBUTION),
        ("judge.votes asks for", _NO_VOTES),
        ("JSON object", "set judge.verdict=written, or use a server that holds replies to response_format"),
        (
            "",
            "let the server hold the judge to the reply's form (judge.verdict=constrained), or use a judge that "
            "follows formats",
        ),
    ),
    Reason.ONLY_REASONING: (
        (
            "",
            "give the judge's server the reasoning parser of its model (vLLM, SGLang: --reasoning-parser), switch its "
            "reasoning off by judge.extra_body, or raise judge.reasoning_tokens",
        ),
    ),
    Reason.SPEND_CAP: (("", "raise judge.spend: it does not even pay for this check"),),
}


def remedy(reason: Reason, detail: str) -> str:
    """What to do about a failure for this reason, whose detail has what the endpoint said."""
    rows = _ROWS.get(reason, (("", "see the endpoint's log"),))
    return next(action for words, action in rows if re.search(words, detail, re.I))
