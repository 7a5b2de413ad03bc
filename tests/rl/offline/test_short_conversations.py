"""Short conversations in the mixture: their share, the forms they may have, what is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longreward.errors import InputError
from rl.data import prompt_files
from rl.offline import short_conversations
from rl.offline.config import ShortSection

POLICY = Path(__file__).parents[3] / "rl" / "toy" / "policy"
EOS = "<|end|>"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return prompt_files.load_tokenizer(str(POLICY))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "chosen": f"Good {number}.", "rejected": f"Bad {number}."} | fields


class Mixer:
    """Mixes short pairs into long ones."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self.folder, self.tokenizer, self.out = folder, tokenizer, folder / "train.jsonl"

    def mix(self, long: int, rows: list[Any], *, share: float = 0.25, seed: int = 42, fits=lambda p, a: True) -> str:
        told = [{"id": str(n), "prompt": "p", "chosen": "c", "rejected": "r"} for n in range(long)]
        section = ShortSection(train=write(self.folder / "short.jsonl", rows), share=share)
        return short_conversations.mix(
            write(self.folder / "long.jsonl", told), section, self.out, self.tokenizer, fits, seed
        )

    @property
    def ids(self) -> list[str]:
        return [json.loads(line)["id"] for line in self.out.read_text().splitlines()]


@pytest.fixture
def mixer(tmp_path: Path, tokenizer: Any) -> Mixer:
    return Mixer(tmp_path, tokenizer)


def read(path: Path, tokenizer: Any, rows: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    broken: list[str] = []
    return list(short_conversations.pairs(write(path, rows), tokenizer, broken)), broken


@pytest.mark.parametrize(("share", "long", "taken"), [(0.25, 30, 10), (0.5, 10, 10), (0.1, 90, 10), (0.2, 3, 1)])
def test_the_short_ones_are_the_share_of_all(mixer: Mixer, share: float, long: int, taken: int) -> None:
    said = mixer.mix(long, [row(n) for n in range(40)], share=share)
    short_ones = [identity for identity in mixer.ids if identity.startswith("short-")]
    assert len(short_ones) == len(set(short_ones)) == taken
    assert len(mixer.ids) == long + taken
    assert said == f"{long} long and {taken} short pairs in {mixer.out}"


def test_short_ones_alone_are_as_many_as_the_long_ones(mixer: Mixer) -> None:
    said = mixer.mix(12, [row(n) for n in range(40)], share=1)
    assert len(mixer.ids) == 12 and all(identity.startswith("short-") for identity in mixer.ids)
    assert said == f"0 long and 12 short pairs in {mixer.out}"


def test_where_there_are_too_few_all_are_taken_and_it_is_told(mixer: Mixer) -> None:
    said = mixer.mix(30, [row(n) for n in range(4)])
    assert sorted(mixer.ids[30:]) == ["short-1", "short-2", "short-3", "short-4"]
    assert "30 long and 4 short pairs (short.share wants 10)" in said


def test_the_same_seed_gives_the_same_file(mixer: Mixer) -> None:
    files = []
    for seed in (1, 1, 2):
        mixer.mix(6, [row(n) for n in range(40)], seed=seed)
        files.append(mixer.out.read_bytes())
    assert files[0] == files[1] != files[2]


def test_pairs_that_are_too_long_are_not_taken(mixer: Mixer) -> None:
    mixer.mix(30, [row(n) for n in range(5)], fits=lambda prompt, answer: "3" not in prompt + answer)
    assert "short-4" not in mixer.ids and len(mixer.ids) == 34


def test_without_a_usable_pair_the_first_problem_is_told(mixer: Mixer) -> None:
    with pytest.raises(
        InputError, match=r"short.train .*short.jsonl holds no pair .*: .*short.jsonl:1: chosen must be"
    ):
        mixer.mix(30, [row(chosen=None)])
    with pytest.raises(InputError, match=r"holds no pair that can be used$"):
        mixer.mix(30, [row()], fits=lambda prompt, answer: False)


def test_what_was_passed_over_is_told(mixer: Mixer) -> None:
    said = mixer.mix(3, [row(), "{", row(rejected="")])
    assert "; 2 unreadable rows skipped (" in said and "short.jsonl:2: not a JSON object" in said


CHAT = [
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "So?"},
]


SYSTEM = {"role": "system", "content": "Be kind."}
LONG = f"<|user|>\nHi?{EOS}\n<|assistant|>\nYes?{EOS}\n<|user|>\nSo?{EOS}\n<|assistant|>\n"


def answers(before: list[dict[str, str]], **fields: Any) -> dict[str, Any]:
    """Both answers as messages behind these."""
    texts = {"chosen": "Good 0.", "rejected": "Bad 0."}
    return {name: [*before, {"role": "assistant", "content": text}] for name, text in texts.items()} | fields


def whole(prompt: Any) -> dict[str, Any]:
    """Both answers as whole conversations, as UltraFeedback's and Capybara's are."""
    return answers(CHAT, prompt=prompt)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": "Hi?"}, f"<|user|>\nHi?{EOS}\n<|assistant|>\n"),
        ({"prompt": CHAT[:1]}, f"<|user|>\nHi?{EOS}\n<|assistant|>\n"),
        (
            {"prompt": CHAT},
            f"<|user|>\nHi?{EOS}\n<|assistant|>\nYes?{EOS}\n<|user|>\nSo?{EOS}\n<|assistant|>\n",
        ),
        # As in published sets, whose answers are whole conversations.
        (
            {
                "prompt": "Hi?",
                "chosen": [*CHAT[:1], {"role": "assistant", "content": "Good 0."}],
                "rejected": [*CHAT[:1], {"role": "assistant", "content": "Bad 0."}],
            },
            f"<|user|>\nHi?{EOS}\n<|assistant|>\n",
        ),
        *((whole(prompt), LONG) for prompt in ("Hi?", " So? ", CHAT[:1], CHAT, None)),
        # The answers are what follows the prompt.
        (answers(CHAT[1:], prompt="Hi?"), LONG),
        (answers(CHAT[1:], prompt=CHAT[:1]), LONG),
        (answers([], prompt=CHAT), LONG),
        (answers(CHAT, prompt=[SYSTEM, *CHAT]), f"<|system|>\nBe kind.{EOS}\n{LONG}"),
    ],
)
def test_text_and_chat_messages(fields: dict[str, Any], prompt: str, tmp_path: Path, tokenizer: Any) -> None:
    found, broken = read(tmp_path / "s.jsonl", tokenizer, [row(**fields)])
    scores = {"chosen_score": None, "rejected_score": None}
    texts = {"prompt": prompt, "chosen": f"Good 0.{EOS}", "rejected": f"Bad 0.{EOS}"}
    assert (found, broken) == ([{"id": "short-1"} | texts | scores], [])


def test_a_query_is_a_prompt(tmp_path: Path, tokenizer: Any) -> None:
    (found,), _ = read(tmp_path / "s.jsonl", tokenizer, [{"query": "Hi?", "chosen": "a", "rejected": "b"}])
    assert found["prompt"] == f"<|user|>\nHi?{EOS}\n<|assistant|>\n"


def test_an_answer_ends_once(tmp_path: Path, tokenizer: Any) -> None:
    rows = [row(chosen=f"Good.{EOS}", rejected=f"Bad.{EOS}\n{EOS}")]
    (found,), _ = read(tmp_path / "s.jsonl", tokenizer, rows)
    assert (found["chosen"], found["rejected"]) == (f"Good.{EOS}", f"Bad.{EOS}")


@pytest.mark.parametrize(
    ("broken_row", "why"),
    [
        ("[1]", "not a JSON object (Expected `object`, got `array`)"),
        (row(chosen=None), "chosen must be text or chat messages, found NoneType"),
        (row(rejected="  "), "rejected must be text or chat messages, found str"),
        (row(rejected=[{"role": "assistant"}]), "each chat message of rejected must have role and content as text"),
        (row(rejected=[{"role": "assistant", "content": None}]), "each chat message of rejected must have role and"),
        (row(rejected=[]), "rejected must be text or chat messages, found list"),
        (answers(CHAT, prompt="Hi?", chosen=CHAT), "chosen ends with a turn of 'user'; it must end with the assistant"),
        (answers(CHAT, prompt="Hi?", rejected=[*CHAT, SYSTEM]), "rejected ends with a turn of 'system'"),
        (answers(CHAT, prompt="Hi?") | {"chosen": answers(CHAT[:1])["chosen"]}, "their earlier turns differ"),
        (answers(CHAT, prompt="Hi?", rejected="Bad."), "their earlier turns differ"),
        (answers(CHAT, prompt="Who?"), "prompt (or query) is not in the conversation"),
        (answers(CHAT, prompt=[{"role": "user", "content": "Who?"}]), "prompt (or query) is not in the conversation"),
        ({"chosen": "a", "rejected": "b"}, "prompt (or query) must be text or chat messages, found NoneType"),
        (row(prompt=[]), "prompt (or query) must be text or chat messages, found list"),
        (row(prompt=[{"from": "user"}]), "each chat message of prompt (or query) must have role and content as text"),
        (row(chosen=f"a{EOS}b"), f"an answer holds the end-of-text mark {EOS}"),
        (row(chosen="Same.", rejected="Same."), "chosen and rejected are the same"),
        (row(chosen="\ud83d"), "chosen has half a surrogate pair"),
        (row(prompt=[{"role": "user", "content": "\ud83d"}]), "prompt has half a surrogate pair"),
    ],
)
def test_a_broken_row_is_named_and_the_rest_goes_on(broken_row: Any, why: str, tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "s.jsonl"
    found, broken = read(path, tokenizer, [row(1), broken_row, row(2)])
    assert [one["id"] for one in found] == ["short-1", "short-3"]
    assert len(broken) == 1 and broken[0].startswith(f"{path}:2: ") and why in broken[0]


def test_a_conversation_that_the_template_refuses_is_a_broken_row(tmp_path: Path, tokenizer: Any) -> None:
    template = tokenizer.chat_template
    tokenizer.chat_template = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}"
    tokenizer.chat_template += template
    try:
        rows = [row(prompt=[SYSTEM, *CHAT]), row(prompt=CHAT)]
        found, broken = read(tmp_path / "s.jsonl", tokenizer, rows)
    finally:
        tokenizer.chat_template = template
    assert len(found) == 1 and broken == [f"{tmp_path / 's.jsonl'}:1: the chat template refuses it: user first"]
