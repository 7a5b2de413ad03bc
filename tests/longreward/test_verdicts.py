import pickle

import pytest

from longreward.errors import ConfigError, InputError, JudgeError, LongRewardError, Reason, VerdictError
from longreward.verdicts import (
    NO_RELEVANT,
    NO_STATEMENTS,
    parse_extraction,
    parse_rating,
    parse_statements,
    parse_support,
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
    ],
)
def test_statements_cut_short_or_absent_are_errors(text: str) -> None:
    with pytest.raises(VerdictError):
        parse_statements(text)


@pytest.mark.parametrize(
    "text",
    [*NO_RELEVANT.values(), "no relevant information.", " “No relevant\nInformation” ", "**没有相关信息。**"],
)
def test_no_relevant_information_is_none(text: str) -> None:
    assert parse_extraction(text) is None
    assert parse_extraction(f"<think>let me see</think>\n{text}") is None


@pytest.mark.parametrize(
    "text",
    ["The fee is 5 euros. No relevant information on the date is given.", "没有相关信息说明日期，但费用为5欧元。", "7"],
)
def test_an_extraction_that_mentions_the_sentence_is_kept(text: str) -> None:
    assert parse_extraction(f"\n{text}\n") == text


@pytest.mark.parametrize("text", ["", " \n", '""', "...", "<think>The fee", "<think>x</think> "])
def test_an_empty_extraction_is_an_error(text: str) -> None:
    with pytest.raises(VerdictError):
        parse_extraction(text)


def test_hostile_replies_are_read_in_linear_time() -> None:
    for text in ("<" + " " * 50_000, "[" * 50_000, "[[" + " " * 50_000 + "7", "</" * 50_000):
        for parse in (parse_rating, parse_support, parse_statements):
            with pytest.raises(VerdictError):
                parse(text)


@pytest.mark.parametrize(
    "error",
    [
        LongRewardError("root"),
        ConfigError("judge.model is not set"),
        InputError("row 3"),
        VerdictError("no verdict", "the reply"),
        JudgeError("rate_limited", "429", attempts=3, retry_after=1.5),
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
