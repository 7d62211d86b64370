"""Numbers in texts: which one is the answer, what it is worth, and what lm-eval makes of the same text."""

import json
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.errors import ConfigError
from evals.tasks.reference_task import ReferenceFormat
from tests.shared_data import data_file
from tests.worlds import classes
from verifiers.base import Outcome
from verifiers.graders import grader_by_name
from verifiers.numeric import NumberFormat, NumberVerifier, gold, read_number
from verifiers.text import TextFormat

RIGHT, WRONG, NONE = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER


def answer(text):
    return NumberFormat().extract(text).value


def verdict(grader, text, reference):
    answers, verifier = grader_by_name(grader)
    return verifier.verify(answers.extract(text).value, reference).outcome


def rows(name):
    with data_file(name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# -- what lm-eval's graders are known to do, and what ours does -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reference", "strict", "flexible"),
    [
        ("#### 18", "18", RIGHT, RIGHT),
        ("#### 1,800", "1800", RIGHT, RIGHT),
        ("#### $18", "18", NONE, RIGHT),
        ("####18", "18", NONE, RIGHT),
        ("#### 18.00", "18", WRONG, WRONG),
        ("It takes .5", "0.5", NONE, WRONG),
        ("The answer is 18. Each costs $2.", "18", NONE, WRONG),
        ("The answer is 18...", "18", NONE, WRONG),
        ("18 dollars, etc...", "18", NONE, WRONG),
        ("Range 10-18", "18", NONE, WRONG),
        ("1 000", "1000", NONE, WRONG),
        ("18/1", "18", NONE, WRONG),
        (r"\frac{1}{2}", "0.5", NONE, WRONG),
        ("18\n\nQuestion 2", "18", NONE, WRONG),
    ],
)
def test_ours_is_right_where_lm_eval_is_not(text, reference, strict, flexible):
    assert verdict("number", text, reference) is RIGHT
    assert verdict("lm_eval_strict", text, reference) is strict
    assert verdict("lm_eval_flexible", text, reference) is flexible


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("The answer is 18. Each costs $2.", "2"),
        ("The answer is 18...", "18.."),  # one full stop goes, two stay
        ("18 dollars, etc...", ".."),  # punctuation alone is an answer
        ("Range 10-18", "-18"),
        ("1 000", "000"),
        ("18/1", "1"),
        (r"\frac{1}{2}", "2"),
        ("18\n\nQuestion 2", "2"),
        ("no number at all", None),
    ],
)
def test_lm_eval_flexible_takes_what_lm_eval_takes(text, taken):
    assert grader_by_name("lm_eval_flexible").answers.extract(text).value == taken


def test_lm_eval_strict_takes_the_first_and_reads_a_whole_answer_field_as_reference():
    assert grader_by_name("lm_eval_strict").answers.extract("#### 3\n#### 4").value == "3"
    assert verdict("lm_eval_strict", "so\n#### 1,234.", "She has\n#### 1,234") is RIGHT


def test_an_unknown_grader_is_named_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'lm_eval_strict'"):
        grader_by_name("lm_eval_strct")


# -- which number ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "rule"),
    [
        (r"The answer is 17, so \boxed{18}.", "18", "boxed"),
        (r"\boxed{3}, no wait, \boxed{4}", "4", "boxed"),
        (r"I put it in \boxed{}. It is \boxed{18\text{ dollars}}", "18", "boxed"),
        (r"\boxed{\$1{,}234.50}", "2469/2", "boxed"),
        (r"\boxed{x = \dfrac{3}{4}}", "3/4", "boxed"),
        (r"\boxed{\text{She has } 18 \text{ eggs}}", "18", "boxed"),
        (r"\boxed{50 \text{ cm}^2}", "50", "boxed"),
        (r"\boxed{\boxed{7}}", "7", "boxed"),
        (r"so \fbox{7}", "7", "boxed"),
        (r"so \boxed 5", "5", "boxed"),
        (r"so \boxed{12", "12", "boxed"),
        (r"so \boxed{3\sqrt{2}}", None, "boxed"),
        (r"so \boxed{2\pi}", None, "boxed"),
        (r"so \boxed{2, 3}", None, "boxed"),
        (r"so \boxed{x > 3}", None, "boxed"),
        ("The answer is 17.\n#### 18", "18", "####"),
        ("#### 17\nNo, wait.\n#### 18 dollars", "18", "####"),
        ("#### 1. Count the eggs\n9 * 2 = 18\n#### 2. Say it\nThat makes 18 in all", "18", "last sentence"),
        ("The answer is 18. There are 7 days.", "18", "answer is"),
        ("**Final Answer:** $18$\n\nI took 3 steps.", "18", "answer is"),
        ("The answer is: \\[\n18\n\\]\nas 3 of 4 say.", "18", "answer is"),
        ("The answer is 16 - 3 - 4 = 9 eggs in 1 day.", "9", "answer is"),
        ("The answer is 5 because 2x = 10.", "5", "answer is"),
        ("The answer to this question is 18, not 17.", "18", "answer is"),
        ("Answer: 16 eggs are laid every day. 3 are eaten, so 13 are left.", "13", "last sentence"),
        ("Answer: 16 eggs are laid every day.\nShe eats 3, which leaves 13.", "13", "last sentence"),
        ("9 * 2 = $<<9*2=18>>18\nA: 18", "18", "answer is"),
        ("There are 3 boxes of 6. So 18 it is!", "18", "last sentence"),
        ("So it is 18. Nice one!", "18", "last number"),
        ("nothing here", None, "none"),
        ("", None, "none"),
    ],
)
def test_the_first_rule_that_finds_something_decides(text, value, rule):
    found = NumberFormat().extract(text)
    assert (found.value, found.rule) == (value, rule)


def test_reasoning_and_further_turns_are_no_answers():
    assert answer("<think>The answer is 3</think>It is 18") == "18"
    assert answer("maybe 3</think>") is None
    assert NumberFormat(reasoning_end="").extract("maybe 3</think>").value == "3"
    assert answer("It is 18\n\nQuestion: Bob has 7 cats.\nAnswer: 8") == "18"
    assert answer("It is 18\nQ: Bob has 7 cats.\nA: 8") == "18"
    assert answer("It is 18\n**Problem 2**: 7 cats") == "18"
    assert answer("Question: how many are 9 times 2?\nIt is 18") == "18"  # restated, nothing was answered before it


@pytest.mark.parametrize("text", ["a</think>It is 18 now", r"It's \boxed{18}", "– 3\u202f000 and #### 18", "so 18"])
def test_the_span_is_where_the_number_stands_in_the_text(text):
    span = NumberFormat().extract(text).span
    assert text[slice(*span)] == "18"


# -- what it is worth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567", "1234567"),
        ("1\u202f000", "1000"),
        ("1\u2009000\u2009000.5", "2000001/2"),
        ("1\xa0000", "1000"),
        (r"1{,}000", "1000"),
        (r"10\,000", "10000"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("-$5", "-5"),
        ("$-5$", "-5"),
        ("+5", "5"),
        ("16 - 3", "3"),
        ("(16)-3", "3"),
        ("step-3", "3"),
        ("007", "7"),
        ("-0", "0"),
        (".5", "1/2"),
        ("0.50", "1/2"),
        ("1e3", "1000"),
        ("2.5e-1", "1/4"),
        (r"1.5 \times 10^3", "1500"),
        (r"2\cdot10^{-2}", "1/50"),
        ("6/4", "3/2"),
        ("2 1/2 cups", "5/2"),
        ("-2 1/2", "-5/2"),
        ("for 5 4/3", "4/3"),
        (r"-\frac{1}{2}", "-1/2"),
        (r"\frac{-1}{2}", "-1/2"),
        (r"\frac12", "1/2"),
        (r"2\frac{1}{2}", "5/2"),
        ("50%", "50"),
        ("18.", "18"),
        ("18 m^2", "18"),
        ("1/0", None),
        (r"\frac{1}{0}", None),
        ("1e999999999", None),
        ("1e-999999999", None),
        ("9" * 100_000, None),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert answer("it is " + text) == value


def test_the_percent_sign_is_a_flag():
    assert read_number("50%") == (Fraction(50), True)
    assert read_number("50 percent") == (Fraction(50), True)
    assert read_number("50") == (Fraction(50), False)
    assert verdict("number", "It is 50%", "50") is RIGHT
    assert verdict("number", "It is 50%", "0.5") is WRONG


@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000))
def test_a_value_is_a_fixed_point(number):
    assert answer(str(number)) == str(number)
    assert NumberVerifier().verify(str(number), str(number)).correct


def test_classes_are_equal_numbers_by_first_appearance():
    texts = ["so 18.0", "so 0.5", "none", "so 1/2", r"\boxed{18}", "so 7"]
    assert classes(NumberFormat(), [answer(text) for text in texts]) == [0, 1, None, 1, 0, 2]


def test_a_reference_that_is_no_number_is_an_error_and_not_a_wrong_answer():
    assert NumberVerifier().verify("18", "eighteen").outcome is Outcome.ERROR
    assert NumberVerifier().verify(None, "18").outcome is NONE


# -- hostile texts --------------------------------------------------------------------------------------------------

MILLION = 1_000_000
HOSTILE = {
    "digits": "7" * MILLION,
    "ones": "1 " * (MILLION // 2),
    "commas": "1,111" * (MILLION // 5),
    "groups": "1" + ",111" * (MILLION // 4),
    "minus": "-" * MILLION,
    "spaces": " " * MILLION + "1",
    "spaces after": "1" + " " * MILLION + "x",
    "newlines": "\n" * MILLION + "1",
    "hashes": "#" * MILLION + "1",
    "marks": "#### " * (MILLION // 5),
    "hash lead": "####" + "*" * MILLION,
    "answers": "the answer is " * (MILLION // 14),
    "answer stars": "answer" + "*" * MILLION,
    "boxes": r"\boxed{" * (MILLION // 7) + "1",
    "box spaces": (r"\boxed" + " " * 10_000) * 100 + "1",
    "braces": r"\boxed" + "{" * MILLION + "1",
    "fractions": r"\frac{1}" * (MILLION // 8),
    "slashes": "1/" * (MILLION // 2),
    "equals": "the answer is " + "1=" * (MILLION // 2),
    "powers": "2^" * (MILLION // 2) + "2",
    "exponent": "1e" + "9" * MILLION,
    "dots": "1." * (MILLION // 2),
    "sentences": "1. a" * (MILLION // 4),
    "questions": "1\n" + ("Question" + " " * 90 + "\n") * (MILLION // 100),
    "thinking": "</think>" * (MILLION // 8) + "1",
    "nul": "\0" * MILLION + "1",
    "surrogates": "\ud800" * MILLION + "1\udfff",
    "words": "a " * (MILLION // 2) + "1" + " a" * (MILLION // 2),
    "arabic digits": "\u0661" * MILLION,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_comes_back_at_once(name):
    for grader in ("number", "lm_eval_strict", "lm_eval_flexible"):
        answers, verifier = grader_by_name(grader)
        began = time.process_time()
        found = answers.extract(HOSTILE[name])
        verifier.verify(found.value, "18")
        assert time.process_time() - began < 1.0


PIECES = st.sampled_from([*"0123456789.,-+$%/\\{}^_ \n#=:eEx√", "\\boxed{", "\\frac{", "answer is ", "Q:"])


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=500)
def test_any_text_gives_a_canonical_number_or_none_and_a_span_inside_it(text):
    found = NumberFormat().extract(text)
    assert found.value is None or str(Fraction(found.value)) == found.value
    assert found.span is None or 0 <= found.span[0] <= found.span[1] <= len(text)


# -- data -----------------------------------------------------------------------------------------------------------


def test_all_5276_labels_of_openais_solutions_are_reproduced():
    solutions = 0
    for row in rows("gsm8k_openai_model_solutions.jsonl"):
        reference = gold("#### " + row["ground_truth"].rpartition("A: ")[2])
        for judged in (value for value in row.values() if isinstance(value, dict)):
            judged_right = verdict("number", judged["solution"], reference) is RIGHT
            assert judged_right == judged["is_correct"], judged["solution"]
            solutions += 1
    assert solutions == 5276


@pytest.mark.parametrize(("split", "count"), [("test", 1319), ("train", 7473)])
def test_all_golds_of_gsm8k_are_whole_numbers_and_right(split, count):
    fields = [row["answer"] for row in rows(f"gsm8k_{split}.jsonl")]
    assert len(fields) == count
    for field in fields:
        reference = gold(field)
        assert reference == str(int(reference))
        for grader in ("number", "lm_eval_strict", "lm_eval_flexible"):
            assert verdict(grader, field, reference) is RIGHT


def test_a_field_without_a_gold_is_refused():
    for field in ("18", "#### eighteen", ""):
        with pytest.raises(ValueError, match="#### N"):
            gold(field)


# -- answers that are text ------------------------------------------------------------------------------------------


# (how a text answer is found and compared: tests/test_tasks.py)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_holds_up_no_text_format(name):
    for answers in (TextFormat(), ReferenceFormat()):
        began = time.process_time()
        answers.extract(HOSTILE[name])
        assert time.process_time() - began < 1.0


def test_a_text_of_nothing_but_boxes_holds_nobody_up():
    """Each unclosed box was read to the end of the text, so a million characters took hours."""
    began = time.process_time()
    assert TextFormat().extract("\\boxed{" * 140_000).rule == "last line"
    assert time.process_time() - began < 1.0
