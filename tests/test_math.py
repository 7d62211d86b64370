"""Mathematical answers: where they are found, which are the same, and what hostile ones can't do."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.errors import ConfigError
from tests.shared_data import data_file
from verifiers.base import Outcome
from verifiers.graders import grader_by_name
from verifiers.grading import Grading
from verifiers.math import MathFormat, MathVerifier, Rules
from verifiers.workers import WorkerPool

VERIFIER = MathVerifier()
RIGHT, WRONG, ERROR = Outcome.CORRECT, Outcome.WRONG, Outcome.ERROR


def quick(answer, reference, **rules):
    verdict = MathVerifier(rules=Rules(**rules)).quick(answer, reference)
    return verdict and verdict.outcome


def both_ways(answer, reference, **rules):
    outcomes = {quick(answer, reference, **rules), quick(reference, answer, **rules)}
    assert len(outcomes) == 1, (answer, reference)
    return outcomes.pop()


def data_folder():
    return data_file("math500.jsonl").parent


# -- where the answer is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "rule"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", "boxed"),
        (r"I got \boxed{3}, no wait, \boxed{4}", "4", "boxed"),
        (r"\boxed{3} <think> </think> so \boxed{4}", "4", "boxed"),
        (r"\boxed{3}</think> no box", None, "none"),
        (r"\fbox{7}", "7", "boxed"),
        (r"it is \boxed 5.", "5", "boxed"),
        (r"$\boxed \frac{1}{2}$ as said", r"\frac{1}{2}", "boxed"),
        (r"\boxed{\boxed{7}}", "7", "boxed"),
        (r"\boxed{\left\{1, 2\right.} then", r"\left\{1, 2\right.", "boxed"),
        (r"\boxed{\{1\}}", r"\{1\}", "boxed"),
        (r"\boxed{} or \boxed{ 8 }, and \boxed{}", "8", "boxed"),
        (r"The answer is 3, that is \boxed{12", None, "none"),  # cut off: no other rule gets a try
        (r"\boxed{3}. Once more: \boxed{1", "3", "boxed"),
        ("Final Answer: The final answer is $x^2$. I hope it is correct.", "x^2", "answer is"),
        ("The answer is 1/2.", "1/2", "answer is"),
        ("The answer is 3. No: the answer is **4**.", "4", "answer is"),
        (r"The answer is the interval \((0, 1]\).", "(0, 1]", "answer is"),
        ("We get $a = 3$. So it must be $2a = 6$.", "2a = 6", "last formula"),
        ("We get $a = 3$. So there are 6 of them.", "6", "last sentence"),
        ("#### 18", "18", "####"),
        ("The answer is $5$.\n\nQuestion: what is 2+2?\nThe answer is $4$.", "5", "answer is"),
        ("nothing here", None, "none"),
        ("", None, "none"),
    ],
)
def test_the_answer_is_found_by_the_rule_that_comes_first(text, value, rule):
    found = MathFormat().extract(text)
    assert (found.value, found.rule) == (value, rule)
    if found.span is not None and rule not in ("####", "last sentence"):
        assert text[slice(*found.span)] == value


MILLION = 10**6
LONG = {
    "boxes": r"\boxed{" * (MILLION // 7),
    "whole boxes": r"\boxed{1}" * (MILLION // 9),
    "bare boxes": r"\boxed " * (MILLION // 7),
    "braces": r"\boxed{" + "{" * MILLION,
    "closing braces": r"\boxed{1" + "}" * MILLION,
    "backslashes": r"\boxed{" + "\\" * MILLION,
    "answers": "answer is " * (MILLION // 10),
    "dollars": "$" * MILLION,
    "one formula": "$" + "x" * MILLION + "$",
    "parentheses": r"\(" * (MILLION // 2),
    "digits": "1" * MILLION,
    "nul": "\0" * MILLION,
    "surrogates": "\ud800" * MILLION,
    "thinking": "</think>" * (MILLION // 8),
}


@pytest.mark.parametrize("name", LONG)
def test_a_million_characters_hold_nobody_up(name):
    began = time.process_time()
    answers = MathFormat()
    found = answers.extract(LONG[name])
    if found.value is not None:
        answers.key(found.value)
        VERIFIER.quick(found.value, "18")
    VERIFIER.quick(LONG[name], "18")
    assert time.process_time() - began < 2.0


# -- what is the same -------------------------------------------------------------------------------------------------

SAME = [
    *[("1/2", "0.5"), (r"\frac12", ".5"), (r"\dfrac{1}{2}", "2/4"), (r"1\frac45", "9/5"), ("1 4/5", "1.8")],
    *[("10,080", r"10,\!080"), ("10 000", "10000"), ("1e3", "1000"), (r"6.72 \times 10^{-5}", ".0000672")],
    *[(r"0.\overline{36}", r"\frac{4}{11}"), ("1 million", "1000000"), ("2^{10}", "1024"), ("5!", "120")],
    *[(r"50\%", "50"), (r"90^\circ", "90"), (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^{\circ}")],
    *[("18 eggs", "18"), (r"8\sqrt3 \text{ square inches}", r"8\sqrt{3}"), ("$18.90", r"\$18.9"), (r"-\$36", "-36")],
    *[("5 m", r"5\text{ m}"), (r"864 \mbox{ inches}^2", r"864 \text{ square inches}")],
    *[(r"1/\sqrt2", r"\frac{\sqrt{2}}{2}"), (r"\sqrt{12}", r"2\sqrt{3}"), (r"\sqrt[3]{16}", r"2\sqrt[3]{2}")],
    *[(r"\frac{1}{1+\sqrt2}", r"\sqrt2-1"), (r"\sqrt{-4}", "2i"), ("6+9i", "9i + 6"), (r"\frac{2\pi}{4}", r"\pi/2")],
    *[("2(x+1)", "2x+2"), ("(a+5)(b+2)", "ab+2a+5b+10"), (r"\frac{x^2-1}{x-1}", "x+1"), ("x^2", "x^{2}")],
    *[("1,2", "2,1"), ("3, 5, and 7", "7, 5, 3"), (r"\{1,2\}", "2,1"), (r"\{1,1,2\}", r"\{2,1\}")],
    *[(r"1\pm\sqrt{19}", r"1+\sqrt{19},1-\sqrt{19}"), (r"\{1\pm\sqrt5,-2\}", r"-2, 1-\sqrt5, 1+\sqrt5")],
    *[("(1/2, 3)", r"\left( \frac{1}{2}, 3 \right)"), (r"\langle 1,2\rangle", "(1,2)"), ("(b,c)=(6,5)", "(6,5)")],
    *[
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
        (r"\begin{bmatrix}1&0\\0&1\end{bmatrix}", r"\begin{pmatrix}1&0\\0&2/2\end{pmatrix}"),
    ],
    *[("x=5", "5"), ("f(x) = 2x", "2x"), ("y=2x+3", "2x - y + 3 = 0"), ("5x-7y+11z+4=0", "-5x+7y-11z=4")],
    *[(r"x \in [-2,7]", r"-2\le x\le 7"), ("[-2,7]", r"7 \ge x \geq -2"), ("x>5", r"(5,\infty)"), ("5<x", "x>5")],
    *[
        (r"x<2 \text{ or } x>3", r"(-\infty,2)\cup(3,\infty)"),
        (r"(3,\infty)\cup(-\infty,2)", r"(-\infty, 2) \cup (3, \infty)"),
    ],
    *[("4210_5", "4210_{5}"), (r"\text{(C)}", "C"), ("(c)", r"\textbf{(C)}"), (r"\text{A,D}", "A, D")],
    *[(r"\text{evelyn}", "Evelyn"), ("2k", r"2k, k \in \mathbb{Z}"), ("2^3 = 8", "8"), ("She has 18 eggs", "18")],
]
DIFFERENT = [
    *[("1/2", "1/3"), ("0.333", "1/3"), ("2.00000001", "2"), ("0.00000012", "0.00000034"), ("0.001", "0.0010004")],
    *[("1800", "18"), ("0.18", "18"), ("12345", "12346"), (r"50\%", r"\frac12"), ("4210_5", "4210_7"), ("52_8", "52")],
    *[("1,2", "(1,2)"), (r"\{1,2\}", "(1,2)"), ("(1,2)", "(2,1)"), ("1", "1,-3"), ("0,1", "1"), ("1,1,2", "1,2")],
    *[("[0,1)", "(0,1]"), ("(0,1)", "[0,1]"), (r"(-\infty,0)", r"(-\infty,0]"), (r"(4,\infty)", r"(8,\infty)")],
    *[("a", "A"), ("3R^2", "3r^2"), ("C", "The vitamin C"), ("C", "D"), ("Evelyn", "Navin"), (r"\text{east}", "5")],
    *[("2(x+1)", "2x+1"), ("p-q", "q-p"), ("x=5", "y=5"), ("y=2x+3", "2x-y+4=0"), ("x^2", "x^3"), ("6-9i", "6+9i")],
    *[
        (r"5\text{ cm}", r"5\text{ m}"),
        (r"\$5", "5 cents"),
        (r"15 \text{ cm}^2", r"15 \text{ cm}^3"),
        (r"-\$36", r"\$36"),
    ],
    *[
        (r"\sqrt{3}", "1.732"),
        (r"\frac{20000}{\pi}", "6366.2"),
        (r"\sqrt{3+2\sqrt2}", r"2+\sqrt2"),
        (r"\cot x", r"\tan x"),
    ],
    *[(r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\log_2 8", "4"), ("e^2", "7.389")],
]


@pytest.mark.parametrize(("answer", "reference"), SAME)
def test_the_same_answer_in_another_spelling_is_right(answer, reference):
    assert both_ways(answer, reference) is RIGHT


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_another_answer_is_wrong_without_symbolic_work(answer, reference):
    assert both_ways(answer, reference) is WRONG


@pytest.mark.parametrize(
    ("answer", "reference", "default", "rules", "with_rules"),
    [
        ("(1,2)", "(2,1)", WRONG, {"ordered_points": False}, RIGHT),
        ("1,2", "2,1", RIGHT, {"ordered_lists": True}, WRONG),
        (r"50\%", "0.5", WRONG, {"percent": "hundredths"}, RIGHT),
        (r"50\%", "50", RIGHT, {"percent": "hundredths"}, WRONG),
        ("5 cm", r"5\text{ inches}", WRONG, {"units": False}, RIGHT),
        ("Evelyn", r"\text{evelyn}", RIGHT, {"case": True}, WRONG),
        ("3.1416", r"\pi", WRONG, {"tolerance": 1e-4}, RIGHT),
        ("0.00000012", "0.00000034", WRONG, {"tolerance": 1e-4}, WRONG),  # relative, not absolute
        (r"\sin 1", "0.8415", WRONG, {"tolerance": 1e-4}, RIGHT),
    ],
)
def test_what_mathematics_leaves_open_is_a_rule(answer, reference, default, rules, with_rules):
    assert both_ways(answer, reference) is default
    assert both_ways(answer, reference, **rules) is with_rules


def test_an_unreduced_fraction_is_wrong_where_that_is_asked():
    assert quick("2/4", "1/2") is RIGHT
    assert quick("2/4", "1/2", reduced=True) is quick(r"\frac{2}{4}", "1/2", reduced=True) is WRONG
    assert quick("1/2", r"\frac{1}{2}", reduced=True) is RIGHT


def test_rules_that_make_no_sense_are_refused():
    for wrong in ({"percent": "both"}, {"tolerance": -1}, {"tolerance": 1}):
        with pytest.raises(ConfigError):
            Rules(**wrong)


# -- what can't be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("absurd", "says"),
    [
        ("7" * 10**6, "characters"),
        ("5\0", "control"),
        ("5\ud800", "control"),
        ("(" * 3000 + "1" + ")" * 3000, "characters"),
        ("(" * 300 + "1" + ")" * 300, "levels"),
        ("9^{9^{9^9}}", "bits"),
        ("(10^8)!", "factorial"),
        ("1e9999", "power of ten"),
        (r"\binom{10^9}{5}", "binomial"),
        ("", "empty"),
    ],
)
def test_an_absurd_answer_is_wrong_an_absurd_reference_an_error_and_the_rule_says_why(absurd, says):
    answer, reference = VERIFIER.quick(absurd, "5"), VERIFIER.quick("5", absurd)
    assert (answer.outcome, reference.outcome) == (WRONG, ERROR)
    assert says in answer.rule
    assert says in reference.rule


def test_no_answer_is_no_wrong_answer():
    assert quick(None, "5") is VERIFIER.verify(None, "5").outcome is Outcome.NO_ANSWER


# -- laws -------------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(-30, 30).map(str) | st.sampled_from(["x", "y", r"\sqrt{2}", r"\pi", r"\frac{1}{3}", "0.25"])
TREES = st.recursive(NUMBERS, lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner), max_leaves=6)


def write(tree):
    return tree if isinstance(tree, str) else f"({write(tree[1])}){tree[0]}({write(tree[2])})"


def rewrite(tree):
    """The same value by laws of algebra: commuted, distributed, doubled and halved."""
    if isinstance(tree, str):
        return f"\\frac{{2({tree})}}{{2}}"
    sign, left, right = tree
    if sign == "+":
        return f"{rewrite(right)}+({rewrite(left)})"
    if sign == "-":
        return f"-(({rewrite(right)})-({rewrite(left)}))"
    if isinstance(right, tuple) and right[0] in "+-":
        product = f"({rewrite(left)})\\cdot"
        return f"{product}({rewrite(right[1])}){right[0]}{product}({rewrite(right[2])})"
    return f"({rewrite(right)})({rewrite(left)})"


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_equal_forms_are_accepted_and_changed_ones_refused(tree):
    written, rewritten = write(tree), rewrite(tree)
    assert both_ways(written, rewritten) is RIGHT
    assert MathFormat().key(written) == MathFormat().key(rewritten)
    for change in ("+1", r"+\sqrt{3}", "-\\frac{1}{7}x", "+z"):
        assert both_ways(written, f"({rewritten}){change}") is WRONG


PIECES = st.sampled_from(
    [*"0123456789xyiA.,-+/^_(){}[]=<> $%!|", r"\frac", r"\sqrt", r"\pi", r"\pm", r"\text{cm}", r"\cup", r"\le"]
)


@given(st.lists(PIECES, max_size=14).map("".join), st.lists(PIECES, max_size=14).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_two_texts_are_judged_alike_both_ways_and_by_equal_keys(left, right):
    there, back = VERIFIER.quick(left, right), VERIFIER.quick(right, left)
    if there is not None and back is not None and ERROR not in (there.outcome, back.outcome):
        assert {there.outcome, back.outcome} in ({RIGHT}, {WRONG})
    answers = MathFormat()
    if left.strip() and right.strip() and answers.key(left) == answers.key(right):
        assert there is None or there.outcome in (RIGHT, ERROR, WRONG if "empty" in there.rule else RIGHT)


def test_votes_are_counted_by_value():
    async def story():
        return await Grading(MathFormat()).classes(["1/2", "0.5", None, r"\frac12", "1/3", "2/4", "(1,2)"])

    assert asyncio.run(story()) == [0, 0, None, 0, 1, 0, 2]


def test_the_verifier_can_be_sent_to_a_worker():
    verifier = MathVerifier(rules=Rules(percent="hundredths"))
    assert pickle.loads(pickle.dumps(verifier)) == verifier == MathFormat(rules=verifier.rules).equality


# -- data -------------------------------------------------------------------------------------------------------------


def test_all_golds_of_math500_are_found_and_right_also_respelt():
    from benchmarks.math_grading import gold

    found = gold(data_folder())
    assert found.extracted == found.correct == found.total == 500
    assert found.by_rule["spelling"] < 250
    assert found.rows_a_second > 200


def test_labels_of_processbench_are_disputed_in_five_known_rows():
    """Two labels call the gold itself wrong; three answers are no number: a sum with its working, two kinds, a typo."""
    from benchmarks.math_grading import labels

    found = labels(data_folder())
    assert found.total == 400
    assert [row.split(":")[0] for row in found.false_accepts] == ["gsm8k-70", "gsm8k-74"]
    assert {row.split(":")[0] for row in found.false_refusals} <= {"gsm8k-238", "gsm8k-319", "gsm8k-329"}


@pytest.mark.engine
def test_no_changed_gold_is_accepted():
    pytest.importorskip("math_verify")
    from benchmarks.math_grading import mutations

    found = mutations(data_folder())
    assert sum(found.by_kind.values()) > 1500
    assert found.accepted == []


# -- symbolic work ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        (r"\cot x", r"\frac{1}{\tan x}", RIGHT),
        (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2", RIGHT),
        (r"2\cdot 2^n", "2^{n+1}", RIGHT),
        (r"\int_0^1 2x dx", "1", RIGHT),
        (r"\int_0^1 2x dx", "2", WRONG),
    ],
)
def test_math_verify_decides_what_is_left(answer, reference, outcome):
    pytest.importorskip("math_verify")
    assert VERIFIER.quick(answer, reference) is None
    verdict = VERIFIER.verify(answer, reference)
    assert (verdict.outcome, verdict.rule) == (outcome, "math-verify")


HOSTILE = [
    "__import__('os').system('touch zqzq')",
    r"\text{__import__('os').system('touch zqzq')}",
    r"\mathrm{__import__}('os').system('touch zqzq')",
    r"\frac{__import__('os').system('touch zqzq')}{1}",
    "$__import__('os').system('touch zqzq')$",
    "x_{__import__('os').system('touch zqzq')}",
    r"open('zqzq','w')\int x",
    "().__class__.__base__.__subclasses__()",
    "zqzq",
    "9/9",
    "1.5",
]
WATCHED = """
import json, os, sys
import sympy.parsing.sympy_parser as parser
texts, events = [], []
original = parser.eval_expr
parser.eval_expr = lambda code, *rest: (texts.append(code), original(code, *rest))[1]
def watch(event, arguments):
    if event in ("os.system", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn"):
        events.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        events.append(str(arguments[0]))
    if event == "exec" and arguments[0].co_filename == "<string>":
        events.extend(name for name in arguments[0].co_names if name in ("zqzq", "__import__", "system"))
from verifiers.graders import grader_by_name
graders = [grader_by_name(name).verifier for name in ("math", "minerva", "prm800k", "hendrycks", "math_verify")]
sys.addaudithook(watch)
for hostile in json.loads(sys.argv[1]):
    for other in ("1", "x", hostile + "+1"):
        for grader in graders:
            grader.verify(hostile, other)
            grader.verify(other, hostile)
if sys.argv[2] == "control":
    eval("__import__('os').system('true')")
    parser.parse_expr("7*7")
print(json.dumps([texts, events, os.listdir(".")]))
"""


@pytest.mark.engine
def test_no_text_of_a_model_is_ever_run(tmp_path):
    """sympy's Number("9") comes down to eval; what reaches it here are sympy's own names of units and of constants."""
    pytest.importorskip("math_verify")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def watched(kind, hostile):
        command = [sys.executable, "-c", WATCHED, json.dumps(hostile), kind]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    texts, events, files = watched("plain", HOSTILE)
    assert (events, files) == ([], [])
    assert not [text for text in texts if "zqzq" in text or any(digit in text for digit in "0123456789")]
    texts, events, _ = watched("control", [])
    assert "os.system" in events  # the watch does see
    assert any("7" in text for text in texts)


@pytest.mark.engine
def test_hostile_answers_come_back_in_time_and_leave_the_pool_working():
    pytest.importorskip("math_verify")
    from benchmarks.math_grading import hostile

    found = hostile(cpu_seconds=2)
    assert found.slowest < 30
    assert not [name for name, verdict in found.verdicts.items() if verdict.startswith("correct") and name[0] != "a"]
    assert found.verdicts["a plain answer afterwards"].startswith("correct")
    assert found.verdicts["tower as answer"].startswith("wrong: answer has")
    assert found.verdicts["tower as reference"].startswith("error: reference has")


@pytest.mark.engine
def test_gradings_leak_no_process_and_no_memory():
    pytest.importorskip("math_verify")
    from benchmarks.math_grading import leaks

    found = leaks(gradings=3000, symbolic=100, killed=1)
    assert found.processes[0] == found.processes[1]
    assert found.parent_mib[1] - found.parent_mib[0] < 30
    assert found.worker_mib[1] - found.worker_mib[0] < 60


def test_a_comparison_that_does_not_end_is_a_timeout_and_the_next_one_works():
    pytest.importorskip("math_verify")

    async def story():
        async with WorkerPool(cpu_seconds=1, wall_seconds=60) as pool:
            grading = Grading(MathFormat(), pool)
            endless = await grading.verify(VERIFIER, r"\prod_{k=1}^{10^7} (k^{k}+1)", "5")
            return endless, await grading.classes([r"\cot x", "5", r"\frac{1}{\tan x}"])

    endless, classes = asyncio.run(story())
    assert endless.outcome is Outcome.TIMEOUT
    assert classes == [0, 1, 0]


# -- the graders of others --------------------------------------------------------------------------------------------


def judged(name, answer, reference):
    return grader_by_name(name).verifier.verify(answer, reference).outcome


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        *[(".5", r"\frac{1}{2}", RIGHT), (".25", r"\frac14", WRONG), ("1/3", r"\frac13", RIGHT)],
        *[("k = 5", "5", RIGHT), ("xyz=5", "5", WRONG), (r"5\text{ cm}", "5", RIGHT)],
        *[(r"50\%", "50", RIGHT), (r"90^\circ", "90", RIGHT), ("1,2", "2,1", WRONG), (r"\sqrt2", r"\sqrt{2}", RIGHT)],
        *[(r"\sqrt", r"\sqrt", RIGHT), (r"\frac", "5", WRONG)],
    ],
)
def test_hendrycks(answer, reference, outcome):
    assert judged("hendrycks", answer, reference) is outcome


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        *[("2,1", "1,2", WRONG), ("6/2", "3", WRONG), ("3 - 1", "2", WRONG), ("(b,c)=(6,5)", "(6,5)", WRONG)],
        *[(r"1+\sqrt{19},1-\sqrt{19}", r"1\pm\sqrt{19}", WRONG), (r"(1/\sqrt2,1)", r"(\frac{\sqrt2}{2},1)", WRONG)],
        *[("2.00000001", "2", RIGHT), ("(a)", "a", RIGHT), ("2x+2", "2(x+1)", RIGHT), ("2/4", "1/2", WRONG)],
        *[(r"1/\sqrt2", r"\frac{\sqrt2}{2}", RIGHT), ("5 meters", "5", RIGHT), ("x^{12}", "x^{11}*x", WRONG)],
    ],
)
def test_prm800k(answer, reference, outcome):
    pytest.importorskip("sympy")
    pytest.importorskip("pylatexenc")
    assert judged("prm800k", answer, reference) is outcome


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        *[(r"\boxed{3}, no wait, \boxed{4}", "4", WRONG), ("$(1,2)$", r"\{1,2\}", RIGHT), ("$(1,2)$", "1,2", RIGHT)],
        *[("$A$", "a", RIGHT), ("$4210_7$", "4210_5", RIGHT), ("$0.00000034$", "0.00000012", RIGHT)],
        *[(r"$-2\le x\le 7$", "[-2,7]", WRONG), ("$[-2,7]$", r"-2\le x\le 7", RIGHT), ("it is 3/4 + 1", "7/4", RIGHT)],
    ],
)
def test_math_verify(answer, reference, outcome):
    pytest.importorskip("math_verify")
    assert judged("math_verify", answer, reference) is outcome


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
        ("Final Answer: The final answer is 5. ", "5"),
        ("Final Answer: The final answer is\n5. I hope it is correct.", None),  # its dot takes no line break
        (r"\boxed{5}", None),
        ("Final Answer: The final answer is" * 30_000 + "\n", None),
    ],
)
def test_minerva_finds_nothing_but_its_own_sentence(text, value):
    assert grader_by_name("minerva").answers.extract(text).value == value


@pytest.mark.engine
def test_golds_by_the_graders_of_others():
    """lm-eval's grader calls 28 golds of MATH-500 wrong: each tuple, each interval, .35625."""
    pytest.importorskip("math_verify")
    pytest.importorskip("pylatexenc")
    from benchmarks.math_grading import compatibility

    assert compatibility(data_folder()) == {
        "hendrycks": "500/500",
        "minerva": "472/500",
        "prm800k": "500/500",
        "math_verify": "500/500",
    }


def test_the_grader_that_runs_model_output_is_refused():
    with pytest.raises(ConfigError, match="runs model output as Python"):
        grader_by_name("qwen_math")
