"""The judge: `openai` asks an endpoint, `offline` applies rules. Both answer the same typed requests."""

from longreward.config import EmbeddingsConfig, JudgeConfig
from longreward.errors import ConfigError
from longreward.judge.base import Judge, JudgeStatus, Verdict
from longreward.judge.cache import VerdictCache
from longreward.prompts import OURS, Prompts


def make_judge(
    config: JudgeConfig,
    cache: VerdictCache | None = None,
    prompts: Prompts = OURS,
    embeddings: EmbeddingsConfig | None = None,
) -> Judge:
    """The judge that `config.kind` names. `cache` is its to close; the offline judge needs none.
    `embeddings`: the model that `Judge.embed` asks, where it is used.

    What talks to endpoints is imported only when it is used. ConfigError for `vllm`, whose server nobody has started.
    """
    if config.kind == "offline":
        from longreward.judge.offline import OfflineJudge

        return OfflineJudge()
    if config.kind == "vllm":
        raise ConfigError(
            "judge.kind=vllm: a training run or a longreward command starts that judge; elsewhere start "
            "launch/judge_server.sh and set judge.kind=openai and judge.base_url"
        )
    from longreward.judge.engine.openai_judge import OpenAIJudge

    return OpenAIJudge.of(config, cache, prompts=prompts, embeddings=embeddings)


__all__ = ["Judge", "JudgeStatus", "Verdict", "make_judge"]
