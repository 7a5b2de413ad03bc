"""`chunking.tokenizer`: the sizes of chunks in a model's tokens, for the commands, from Python and in `serve`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from longreward import cli
from longreward.config import RewardConfig
from longreward.fingerprint import fingerprint
from longreward.server.config import ServerConfig
from longreward.text.chunking import word_spans
from rl.reward_functions.config import RewardSection

SENTENCE = "Mara sold copper to Otto in Lisbon in nineteen hundred and twenty. "
ROW = {"idx": 1, "context": SENTENCE * 40, "query": "What did Mara sell?", "answer": "Mara sold copper to Otto."}


@pytest.fixture
def letters(tmp_path) -> Path:
    """The folder of a model whose tokens are single characters, four times as many as words at least."""
    folder = tmp_path / "letters"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def score(tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROW) + "\n")

    def run(*words: str, command: str = "score"):
        out = ["--out", str(tmp_path / "out.jsonl")] if command == "score" else []
        code = cli.main([command, str(source), *out, "--judge", "offline", *words])
        return code, "".join(capsys.readouterr())

    return run


def evidence(path: Path) -> list[str]:
    """The passages behind the statements of the answers in a file of scores."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    statements = [one for row in rows for one in row["detail"]["faithfulness"]["statements"]]
    return [passage["text"] for one in statements for passage in one["evidence"]]


def test_sizes_are_counted_in_the_tokenizers_tokens(score, letters, tmp_path):
    assert score()[0] == 0
    words = evidence(tmp_path / "out.jsonl")
    (tmp_path / "out.jsonl").unlink()
    assert score(f"chunking.tokenizer={letters}")[0] == 0
    tokens = evidence(tmp_path / "out.jsonl")
    assert max(map(len, tokens)) <= 128 < max(map(len, words))


def test_a_file_goes_on_with_the_same_tokenizer_wherever_it_lies(score, letters, tmp_path):
    assert score(f"chunking.tokenizer={letters}")[0] == 0
    moved = shutil.move(letters, tmp_path / "moved")
    code, screen = score(f"chunking.tokenizer={moved}")
    assert code == 0 and "1 of 1 answers are already scored" in screen
    code, screen = score()
    assert code == 2 and "another reward configuration" in screen
    file = moved / "tokenizer.json"
    file.write_text(file.read_text() + "\n")
    assert score(f"chunking.tokenizer={moved}")[0] == 2


def test_an_estimate_counts_the_chunks_that_scoring_makes(score, letters):
    words = ["chunking.extraction_tokens=512"]
    calls = []
    for more in ([], [f"chunking.tokenizer={letters}"]):
        code, screen = score(*words, *more, command="estimate")
        assert code == 0
        calls.append(next(int(line.split()[1]) for line in screen.splitlines() if line.startswith("completeness")))
        assert ("cut by words here" in screen) == (not more)
    assert calls == [1 + -(-len(word_spans(ROW["context"])) // 512), 1 + -(-len(ROW["context"]) // 512)]


@pytest.mark.parametrize("command", ["score", "estimate", "audit", "agree"])
def test_a_folder_without_one_is_one_sentence_and_exit_code_2(command, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    labelled = {"answer_a": ROW["answer"], "answer_b": "Otto did.", "preference": "a"}
    source.write_text(json.dumps(ROW | labelled) + "\n")
    out = [] if command == "estimate" else ["--out", str(tmp_path / "out.jsonl")]
    given = ["--judge", "offline", f"chunking.tokenizer={tmp_path}"]
    assert cli.main([command, str(source), *out, *given]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("longreward: ")]
    assert errors == [f"longreward: chunking.tokenizer: {tmp_path}/tokenizer.json does not exist; give its folder"]


def test_a_score_of_before_there_was_the_setting_has_the_same_hash(letters):
    assert fingerprint(RewardConfig.model_validate({"chunking": {"tokenizer": None}})) == fingerprint(RewardConfig())
    assert fingerprint(RewardConfig.model_validate({"chunking": {"tokenizer": letters}})) != fingerprint(RewardConfig())


def test_a_server_counts_by_it_and_else_by_its_policys_tokenizer(letters, tmp_path):
    text = "Mara sold copper."
    both = {"chunking": {"tokenizer": letters}, "serve": {"tokenizer": tmp_path / "none"}}
    assert len(ServerConfig.model_validate(both).token_spans(text)) == len(text)
    assert len(ServerConfig.model_validate({"serve": {"tokenizer": letters}}).token_spans(text)) == len(text)
    assert ServerConfig().token_spans is word_spans


def test_in_training_the_policys_tokens_count_and_another_tokenizer_is_refused(letters):
    with pytest.raises(ValidationError, match=r"in training reward\.tokenizer says what counts"):
        RewardSection.model_validate({"chunking": {"tokenizer": letters}})
