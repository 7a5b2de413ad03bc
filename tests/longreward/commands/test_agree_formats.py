"""`longreward agree` on pairs as others publish them: preference data, and Long-RewardBench's chats."""

from __future__ import annotations

import json

import pytest

from longreward import cli

DOCUMENT, QUESTION = "Mara sold copper to Otto in Lisbon.\n\nLena bought apples.", "What did Mara sell?"
ANSWERS = {"chosen": "Mara sold copper to Otto in Lisbon.", "rejected": "I hope this helps."}


def chat(*contents: str, **more) -> dict:
    """A row of Long-RewardBench, of these messages, of which the first is the system's if there are two."""
    roles = ["system", "user"] if len(contents) == 2 else ["user"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    about = {"source": "L-Eval", "ctx_length_for_length": 12, "tasktype": "Pairwise", "subtype": "QA"}
    return {"prompt_template": messages} | ANSWERS | about | more


@pytest.fixture
def agree(tmp_path, capsys):
    def run(*rows: dict):
        source, out = tmp_path / "bench.jsonl", tmp_path / "scored.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        out.unlink(missing_ok=True)
        words = ["--out", str(out), "--json", str(tmp_path / "found.json"), "--judge", "offline"]
        code = cli.main(["agree", str(source), *words])
        scored = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        found = json.loads((tmp_path / "found.json").read_text()) if scored else {}
        return code, capsys.readouterr().err, scored, found

    return run


def test_a_chat_is_split_at_its_last_paragraph_and_best_of_n_is_passed_over(agree):
    several = {"prompt_template": [], "tasktype": "BestOfN", "candidates": ["a", "b"], "chosen": None, "rejected": None}
    code, screen, scored, found = agree(
        chat(f"{DOCUMENT}\n \n{QUESTION}\n"), several, chat("Read this.", f"{DOCUMENT}\n\n{QUESTION} Where?")
    )
    assert code == 0
    assert [(row["idx"], row["query"]) for row in scored] == [
        ("1/chosen", QUESTION),
        ("1/rejected", QUESTION),
        ("3/chosen", f"{QUESTION} Where?"),
        ("3/rejected", f"{QUESTION} Where?"),
    ]
    assert found["agreement"]["total"]["agree_ties_half"]["share"] == 1
    assert (found["split_chats"], list(found["passed_over"].values())) == (2, [1])
    assert "pairs of chats: 2; the last paragraph is taken for the question" in screen and repr(QUESTION) in screen
    assert "rows passed over: 1 (BestOfN: candidates, not a pair)" in screen


def test_the_document_of_a_chat_is_all_before_the_question(agree, tmp_path):
    plain = {"context": f"Read this.\n\n{DOCUMENT}", "query": QUESTION} | ANSWERS
    _, _, own, _ = agree(plain)
    code, screen, split, _ = agree(chat("Read this.", f"{DOCUMENT}\n\n\n{QUESTION}"))
    assert code == 0 and "chats" in screen
    assert [row["key"] for row in own] == [row["key"] for row in split]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (chat(QUESTION), "prompt_template holds one paragraph alone"),
        (chat(DOCUMENT) | {"prompt_template": "text"}, "prompt_template must be a list of messages"),
        (chat(DOCUMENT) | {"prompt_template": [{"role": "assistant", "content": "x\n\ny"}]}, "prompt_template must be"),
        (chat(f"{DOCUMENT}\n\n{QUESTION}", rejected=None), "rejected missing; a pair needs context, query, chosen"),
        (
            chat(f"{DOCUMENT}\n\n{QUESTION}", win_response="x"),
            "it has the fields of several formats; keep only win",
        ),
        (chat(f"{DOCUMENT}\n\n{QUESTION}", rejected=[{"role": "assistant"}]), "rejected must be text, found list"),
    ],
)
def test_a_chat_that_cannot_be_split_is_named_and_alone_ends_the_command(agree, row, sentence):
    code, screen, _, _ = agree(row, chat(f"{DOCUMENT}\n\n{QUESTION}"))
    assert code == 1 and f"bench.jsonl:1: {sentence}" in screen
    code, screen, scored, _ = agree(row)
    assert code == 2 and sentence in screen and not scored
    assert len([line for line in screen.splitlines() if line.startswith("longreward: ")]) == 1
