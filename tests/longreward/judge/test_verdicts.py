import pickle

import pytest

from longreward.errors import ConfigError, InputError, JudgeError, LongRewardError, Reason, VerdictError
from longreward.judge.verdicts import (
    NO_RELEVANT,
    NO_STATEMENTS,
    parse_extraction,
    parse_rating,
    parse_statements,
    parse_support,
    parse_supports,
)


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("[[7]]", 7),
        ("[[7.5]]", 7.5),
        ("[[ 8 ]]", 8),
        ("[[8/10]]", 8),
        ("[[ 8 / 10 ]]", 8),
        ("[[0]]", 0),
        ("[[10]]", 10),
        ("[[10.0]]", 10),
        ("[[0.0]]", 0),
        ("[[\n9\n]]", 9),
        ("分析……\n【【8】】", 8),
        ("［［８．５］］", 8.5),
        ("[[８／１０]]", 8),
        ("[[[6]]]", 6),
        ("**[[6]]**", 6),
        ("First I thought [[3]], but on balance\n[[7]]\n", 7),
        ("[[excellent]] is too much.\n[[7]]", 7),
        ("<think>maybe [[2]]</think>\nGood.\n[[9]]", 9),
        ("\n <THINK>[[2]]</THINK>[[9]]", 9),
        ("the template opened it: [[2]]</think>[[9]]", 9),
        ("[[7分]]", 7),
        ("[[7 / 10 分]]", 7),
        ("[[评分：7.5]]", 7.5),
        ("[[Rating: 7]]", 7),
        ("[[**Score:** 7]]", 7),
        ("[[Helpfulness: 7/10]]", 7),
        ("[[8 out of 10]]", 8),
        ("[[8 points]]", 8),
        ("[[8]]/10", 8),
        ("[[8]] out of 10.", 8),
        ("[[**8**]]", 8),
        ("[[`8`]]", 8),
        ("[[8.]]", 8),
        (r"\[\[7\]\]", 7),
        (r"\*\*\[\[7\]\]\*\*", 7),
        ("[\u200b[\ufeff7\u2060]]", 7),
        ("[[⑧]]", 8),
        ("Good.\n\\boxed{7}", 7),
        ("Good.\n\n$$\\boxed{7.5}$$\n", 7.5),
        ("Good.\n\\[ \\boxed{\\text{7}} \\]", 7),
        (
            "Two points are missing.\n[[8]]\n\n[[1]](https://example.org/a_(b)) [[2]](#note) [[3]]: http://example.org",
            8,
        ),
        ("[[8]] as the guide says<sup>[[1]](www.example.org)</sup>.", 8),
        ("[[8]]（满分10分）", 8),
        ("[[3]] for the style.\n[[7]] for all of it", 7),
    ],
)
def test_rating_is_read(text: str, rating: float) -> None:
    assert parse_rating(text) == rating


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[7]",
        "8/10",
        "[ [10] ]",
        "[[]]",
        "[[100]]",
        "[[11]]",
        "[[10.5]]",
        "[[-1]]",
        "[[+7]]",
        "[[NaN]]",
        "[[inf]]",
        "[[1e1]]",
        "[[8/5]]",
        "[[8/100]]",
        "[[11/10]]",
        "[[excellent]]",
        "[[7 8]]",
        "[[7²]]",
        "[[1⁰]]",
        "[[7½]]",
        "[[~~7~~]]",
        "[[3]] ~~[[7]]~~",
        "[[3]]\n<!-- [[7]] -->",
        "[[1]]0",
        "[[3]]/5",
        "[[3]] out of 5",
        "**[[3]]** / 5",
        "7/10\n\\boxed{8}",
        "[[7]].5",
        "[[3/[[10]]",
        "[[3]], that is [[8]](all in all)",
        "[[7-8]]",
        "[[about 7]]",
        "[[not 7]]",
        "[[Rating: 11]]",
        "[[11分]]",
        "[[\u202e01]]",
        "It is \\boxed{7} of 10.",
        "\\boxed{7}\nor more",
        "\\boxed{11}",
        "[[3]]\n\\boxed{7}",
        "\\[THINK\\]\n\\boxed{7}",
        "[7] as a rating",
        "Passage [7] says so.",
        "[[7]](https://example.org)",
        "[[8]], as passage [[1]] says",
        "[[8]]\nSource: [[1]]",
        "[[8]] in all, though only [[3]] for its style",
        "[[7,5]]",
        "[[7",
        "[[7]",
        "[[7]]\nor rather [[",
        "[[7]] and [[11]]",
        "[[7]] but [[nan]]",
        "[[7]] then [[-3]]",
        "[[7]] then [[good]]",
        "<think>[[7]]",
        "<think>hm</think>",
        "<think>[[7]]</think> no idea",
    ],
)
def test_anything_else_is_no_rating(text: str) -> None:
    with pytest.raises(VerdictError) as caught:
        parse_rating(text)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("text", "support"),
    [
        ("[[Fully supported]]", 1.0),
        ("[[Partially supported]]", 0.5),
        ("[[No support]]", 0.0),
        ("[[ fully   SUPPORTED ]]", 1.0),
        ("[[Full support]]", 1.0),
        ("[[Fully-supported.]]", 1.0),
        ("[[Partial support]]", 0.5),
        ("[[Not supported]]", 0.0),
        ("[[Unsupported]]", 0.0),
        ("【【完全支持】】", 1.0),
        ("[[部分支持]]", 0.5),
        ("[[不支持]]", 0.0),
        ("[[无支持]]", 0.0),
        ("[[Fully supported]]? No: a date differs.\n[[No support]]", 0.0),
        ("<think>[[No support]]</think>[[Partially supported]]", 0.5),
        ("[[**Fully supported**]]", 1.0),
        ("[[Verdict: Partially supported]]", 0.5),
        ("\\boxed{\\text{Fully supported}}", 1.0),
        ("[[Fully supported]], see [[1]](https://example.org)", 1.0),
        ("From the evidence: [[Fully supported]]", 1.0),
        ("[[Contradicted]]", 0.0),
        ("[[Contradicted.]]", 0.0),
        ("[[Irrelevant]]", 0.0),
        ("[[Not relevant]]", 0.0),
        ("[[Refuted]]", 0.0),
        ("[[矛盾]]", 0.0),
        ("[[不相关]]", 0.0),
    ],
)
def test_support_is_read(text: str, support: float) -> None:
    assert parse_support(text) == support


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Fully supported",
        "[[Not fully supported]]",
        "[[No, fully supported]]",
        "[[Fully or partially supported]]",
        "[[不完全支持]]",
        "[[Supported]]",
        "[[Not contradicted]]",
        "[[Relevant]]",
        "[[Not irrelevant]]",
        "[[1]]",
        "[[]]",
        "[[Fully supported]] ... [[Unclear]]",
        "[[Fully supported]] [[Partially",
        "<think>[[Fully supported]]",
    ],
)
def test_unknown_support_is_an_error(text: str) -> None:
    with pytest.raises(VerdictError):
        parse_support(text)


def test_statements_keep_their_order_and_count_once() -> None:
    reply = """Here they are:
    <statement> The tower is 32 m high. </statement>
    <Statement>It was
 built in 1871.</Statement><statement></statement>
    <statement>the  tower is 32 M high.</statement>＜statement＞灯塔高32米。＜/statement＞"""
    assert parse_statements(reply) == ["The tower is 32 m high.", "It was\n built in 1871.", "灯塔高32米。"]


@pytest.mark.parametrize(
    "text",
    [
        NO_STATEMENTS,
        "no statements.",
        '"No statements"',
        "The answer only refuses.\n\nNo statements\n",
        "<think>no <statement> here</think>No statements",
        "<statement>No statements</statement>",
    ],
)
def test_an_answer_without_statements_is_no_failure(text: str) -> None:
    assert parse_statements(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The tower is 32 m high.",
        "There were no statements about the tower that I could find.",
        "<statement>A.</statement><statement>B is",
        "<statement>A.<statement>B.</statement>",
        "A.</statement>",
        "<statement> </statement>",
        "<think>No statements",
        "[THINK]No statements",
        "<musing>\nNo statements",
        "<musing><statement>A.</statement>",
        "<statement>A.</statement></musing>",
        "<|foo|><statement>A.</statement>",
    ],
)
def test_statements_cut_short_or_absent_are_errors(text: str) -> None:
    with pytest.raises(VerdictError):
        parse_statements(text)


@pytest.mark.parametrize(
    "text",
    [
        *NO_RELEVANT.values(),
        "no relevant information.",
        " “No relevant\nInformation” ",
        "**没有相关信息。**",
        "No relevant information found.",
        "No relevant information was found in this passage.",
        "There is no relevant information.",
        "The passage contains no relevant information.",
        "No relevant\u200b information",
        "未找到相关信息。",
        "本段中没有与问题相关的信息。",
    ],
)
def test_no_relevant_information_is_none(text: str) -> None:
    assert parse_extraction(text) is None
    assert parse_extraction(f"<think>let me see</think>\n{text}") is None


@pytest.mark.parametrize(
    "text",
    [
        "The fee is 5 euros. No relevant information on the date is given.",
        "No relevant information found, but the fee is 5 euros.",
        "No relevant information found on page 3",
        "没有相关信息说明日期，但费用为5欧元。",
        "7",
    ],
)
def test_an_extraction_that_mentions_the_sentence_is_kept(text: str) -> None:
    assert parse_extraction(f"\n{text}\n") == text


@pytest.mark.parametrize("text", ["", " \n", '""', "...", "<think>The fee", "<think>x</think> "])
def test_an_empty_extraction_is_an_error(text: str) -> None:
    with pytest.raises(VerdictError):
        parse_extraction(text)


@pytest.mark.parametrize(
    "reply",
    [
        "1. says so [[Fully supported]]\n2. another buyer [[No support]]",
        "1) a [[Fully supported]]\n2) b [[No support]]",
        "(1) a [[Fully supported]]\n(2) b [[No support]]",
        "1: a [[Fully supported]]\n2: b [[No support]]",
        "1 - a [[Fully supported]]\n2 – b [[No support]]",
        "**1**: a [[Fully supported]]\n**2.** b **[[No support]]**",
        "- 1. a [[Fully supported]]\n- 2. b [[No support]]",
        "Statement 1: a [[Fully supported]]\nStatement 2: b [[No support]]",
        "**Statement 1:** a\n[[Fully supported]]\n\n**Statement (2)**\nIt is another buyer.\n\n[[No support]]",
        "### Statement 1\n[[Fully supported]]\n### Statement 2\n[[No support]]",
        "[1] a [[Fully supported]]\n[2] b [[No support]]",
        "1 [[Fully supported]]\n2 [[No support]]",
        "| # | why | verdict |\n|---|---|---|\n| 1 | a | [[Fully supported]] |\n| 2 | b | [[No support]] |",
        "陈述1：相同。[[Fully supported]]\n陈述 2：不同。[[No support]]",
        "【1】相同。【【完全支持】】\n【2】不同。【【不支持】】",
        "①相同。[[Fully supported]]\n②不同。[[No support]]",
        "1、相同。[[Fully supported]]\n２．不同。［［No support］］",
        "第1条：相同。[[Fully supported]]\n第2条：不同。[[No support]]",
        "1. a [[**Fully supported**]] [[3]](https://example.org)\n2. b [[Contradicted]]",
        "[THINK]1. [[No support]][/THINK]1. a [[Fully supported]]\n2. b [[No support]]",
        r"1. a \[\[Fully supported\]\]" + "\n2. b [[Irrelevant]]",
        "<think>1. [[No support]] 3. [[No support]]</think>\n1. a [[Fully supported]]\n2. b [[No support]]",
        "2. b [[No support]]\n1. a [[Fully supported]]",
        "Here are the verdicts:\n1. a [[Fully supported]]\n2. b [[No support]]\nAll statements are judged.",
        "1. 3.5 tons at 12:30 [[Fully supported]]\n2. b\n12:30 is wrong, 3.5 too\n[[No support]]",
        "1. a [[Fully supported]]\n2. b [[No support]]\nSo:\n1. [[Fully supported]]\n2. [[Not supported]]",
    ],
)
def test_numbered_verdicts_are_read(reply: str) -> None:
    assert parse_supports(reply, 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "[[Fully supported]]",
        "[[Fully supported]]\n[[No support]]",
        "1. a [[Fully supported]]",
        "1. a [[Fully supported]]\n2. b",
        "1. a [[Fully supported]]\n2. b Fully supported",
        "1. a [[Fully supported]]\n2. b [[Not fully supported]]",
        "1. a [[Fully supported]]\n2. b [[No support",
        "1. a [[Fully supported]]\n2. b [[No support]]\n3. c [[No support]]",
        "0. a [[Fully supported]]\n1. b [[No support]]\n2. c [[No support]]",
        "1. a [[Fully supported]]\n2. b [[No support]]\n99999. c [[No support]]",
        "1. a [[Fully supported]]\n2. b [[No support]]\n1. on reflection [[No support]]",
        "1. not [[Fully supported]] but [[No support]]\n2. b [[No support]]",
        "1. a [[Fully supported]] 2. b [[Fully supported]]",
        "1. a [[Fully supported]]\n1. b [[Fully supported]]",
        "1. a [[Fully supported]]\n2. b [[No support]]\nOverall [[No support]]",
        "Overall [[No support]]\n1. a [[Fully supported]]\n2. b [[No support]]",
        "Statement one: a [[Fully supported]]\nStatement two: b [[No support]]",
        "First, 1 is right [[Fully supported]]\nThen 2 is wrong [[No support]]",
        "<think>1. a [[Fully supported]]\n2. b [[No support]]",
        "<musing>1. a [[Fully supported]]\n2. b [[No support]]",
        "1. a [[Fully supported]]\n2. b [[No support]]</musing>",
        "1. a [[Fully supported]]\n<|foo|>2. b [[No support]]",
        "1. a ~~[[Fully supported]]~~\n2. b [[No support]]",
        "<think>1. a [[Fully supported]]</think>2. b [[No support]]",
        "1. [[7]]\n2. [[8]]",
        "9" * 5000 + ". a [[Fully supported]]\n2. b [[No support]]",
    ],
)
def test_numbered_verdicts_are_never_guessed(reply: str) -> None:
    with pytest.raises(VerdictError) as caught:
        parse_supports(reply, 2)
    assert caught.value.text == reply


def test_hostile_replies_are_read_in_linear_time() -> None:
    for text in (
        *("<" + " " * 50_000, "[" * 50_000, "[[" + " " * 50_000 + "7", "</" * 50_000, "<a " * 20_000, "<|" * 20_000),
        *("[" * 50_000 + " a] [[7]]x[[", "[AAAA]" * 8_000 + "[[x]]", "see." * 9_000 + "[[x]]"),
        *("[THINK" * 20_000, "<think>" * 20_000, "</think>" * 20_000, "[[7]](a:" * 9_000, "\\[" * 50_000 + "7"),
    ):
        for parse in (parse_rating, parse_support, parse_statements, lambda reply: parse_supports(reply, 3)):
            with pytest.raises(VerdictError):
                parse(text)


@pytest.mark.parametrize(
    "error",
    [
        LongRewardError("root"),
        ConfigError("judge.model is not set"),
        InputError("row 3"),
        VerdictError("no verdict", "the reply"),
        JudgeError("rate_limited", "429", retry_after=1.5),
        JudgeError(Reason.TIMEOUT),
    ],
)
def test_errors_survive_pickling(error: LongRewardError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.args, vars(copy)) == (type(error), str(error), error.args, vars(error))


def test_errors_are_what_their_users_catch() -> None:
    assert isinstance(ConfigError("x"), ValueError) and isinstance(InputError("x"), ValueError)
    assert f"{JudgeError('timeout').reason}" == "timeout"
    with pytest.raises(ValueError, match="lazy"):
        JudgeError("lazy")


# {} is a thought, {end} what ends it in that dress.
DRESSES = {
    "think": "<think>{}</think>",
    "upper case": "<THINK>{}</THINK>",
    "thinking": "<thinking>{}</thinking>",
    "thought": "<thought>{}</thought>",
    "full-width": "＜think＞{}＜/think＞",
    "seed": "<seed:think>a<seed:cot_budget_reflect>b</seed:cot_budget_reflect>{}</seed:think>",
    "mistral": "[THINK]{}[/THINK]",
    "kimi": "◁think▷{}◁/think▷",
    "command-a": "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>",
    "harmony": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "harmony without control tokens": "analysisWe see: {}assistantfinal",
    "gemma": "<|channel>thought\n{}<channel|>",
    "medgemma": "<unused94>thought\n{}<unused95>",
    "open thoughts": "<|begin_of_thought|>{}<|end_of_thought|><|begin_of_solution|>",
    "harmony, lower case": "analysiswe see: {}assistantfinal",
    "s1": "<|im_start|>think\n{}\n<|im_start|>answer\n",
    "solar": "<|think|>{}<|end|><|begin|>assistant<|content|>",
    "granite": "Here is my thought process:\n{}\nHere is my response:\n",
    "longcat": "<longcat_think>{}</longcat_think>",
    "apriel": "Here are my reasoning steps:\n{}\n[BEGIN FINAL RESPONSE]",
    "reasoning": "<reasoning>{}</reasoning>",
    "attributes": '<thinking budget="9">{}</thinking>',
    "web page": '<details type="reasoning" done="true"><summary>Thought</summary>{}</details>',
    "chinese": "<思考>{}</思考>",
    "zero width": "<th\u200bink>{}</think>",
}


@pytest.mark.parametrize("dress", DRESSES)
def test_what_a_judge_thinks_is_no_verdict_in_any_dress(dress: str) -> None:
    thought, cut = DRESSES[dress].format("maybe [[3]]"), DRESSES[dress].partition("{}")[0] + "maybe [[3]]"
    assert parse_rating(f"{thought}\nGood.\n[[8]]") == 8
    for reply in (cut, thought, f"{thought}\nI cannot tell.", f"<think>a</think>{cut}"):
        with pytest.raises(VerdictError):
            parse_rating(reply)
    assert parse_support(DRESSES[dress].format("[[No support]]") + "[[Fully supported]]") == 1
    statements = DRESSES[dress].format("<statement>A.</statement>") + "<statement>B.</statement>"
    if "\u200b" not in dress and dress != "zero width":
        assert parse_statements(statements) == ["B."]
        assert parse_extraction(thought + "The fee is 5 euros.") == "The fee is 5 euros."


@pytest.mark.parametrize(
    "reply",
    [
        "<analysis>At first [[3]].</analysis>\n<rating>[[8]]</rating>",
        "<answer>\n**[[8]]**\n</answer>",
        "<|begin_of_box|>[[8]]<|end_of_box|>",
        "[ANALYSIS]\nGood.\n[VERDICT]\n[[8]]",
        "The answer [sic] says [REDACTED] and `<musing>`, x --> y, a < b > c.\n[[8]]<|im_end|>",
        "<p>Good.<br/></p>\n<b>[[8]]</b>",
        "Here is my analysis: the reasoning holds.\n[[8]]",
        "Here is my response: [[8]]",
        "<|im_start|>assistant\n[[8]]<|im_end|>",
    ],
)
def test_marks_that_are_no_thoughts_do_no_harm(reply: str) -> None:
    assert parse_rating(reply) == 8


@pytest.mark.parametrize(
    "reply",
    [
        "<musing>perhaps [[8]]",
        "<musing>hm</musing>\n[[8]]",
        "<|foo|>perhaps [[8]]",
        "[MUSING]\nperhaps [[8]]",
        "◁muse▷perhaps [[8]]",
        "<analysis>Good. [[8]]",
        "[[8]]<|im_end|>\n<|im_start|>assistant\n[[3]]",
        "perhaps [[8]]</musing>\nI cannot tell.",
    ],
)
def test_a_verdict_that_may_stand_in_a_thought_is_an_error(reply: str) -> None:
    with pytest.raises(VerdictError, match=r"before the verdict|behind the verdict|behind the judge"):
        parse_rating(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>a</think>[[3]]\n<think>b [[10]]</think>",
        "<think>a</think>[[3]]\n<think>b [[10]]",
        "[[3]]\n<think>maybe [[10]]",
        "<think>it says </think> and [[10]], so</think>I cannot judge this.",
        "◁think▷perhaps [[10]]◁/think▷",
    ],
)
def test_what_a_judge_thinks_is_never_its_verdict(reply: str) -> None:
    with pytest.raises(VerdictError):
        parse_rating(reply)


def test_the_verdict_after_several_thoughts_counts() -> None:
    assert parse_rating("<think>[[1]]</think>Hm.<think>[[2]]</think>\n[[7]]") == 7
