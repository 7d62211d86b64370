"""From model text to programs, and from problems to their examples; nothing here runs a model's program."""

import gzip
import json
import re
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.types import Completion, FinishReason, Usage
from reasoning.trajectory import Prompt, read_candidate
from tests.shared_data import DATA, needs_data
from verifiers.code.chunks import split_chunks
from verifiers.code.examples import SAME, read_examples
from verifiers.code.programs import CELL, CodeFormat, assemble, find_code

PROMPT = '''from typing import List

LIMIT = 3


def helper(x):
    return x + LIMIT


def wanted(numbers: List[int]) -> int:
    """ Sum with three more.
    >>> wanted([1])
    4
    """
'''
BODY = "    total = 0\n    for n in numbers:\n        total += n\n    return helper(total)\n"
WHOLE = "def wanted(numbers):\n    return helper(sum(numbers))\n"


def value(text):
    return find_code(text).value


def program(text, prompt=PROMPT):
    return assemble(value(text), prompt=prompt, entry_point="wanted")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # MBPP's regular expressions
        yield


def run(source):
    """The names of a source that this file or a data set wrote."""
    names = {}
    exec(source, names)
    return names


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (BODY, "continuation"),
        ("\n" + BODY + "\n\nprint(wanted([1]))\n", "continuation"),
        (BODY + "\n\ndef unrelated(x):\n    return", "continuation"),  # the run-on of a base model, torn
        (BODY.replace("helper(", "twice(") + "\n\ndef twice(x):\n    return x + 3\n", "continuation"),
        (BODY + "```\n\nThis sums them up.", "continuation"),
        (BODY + "\nThe function sums them up.\n", "continuation"),
        (f"Here you are:\n\n```python\n{WHOLE}```\nIt is easy.", "fenced"),
        (f"Here you are:\n\n```\n{WHOLE}```", "fenced"),
        (f"```py\n{BODY}```", "fenced"),  # the body alone
        (f"1. So:\n   ```python\n   {WHOLE.replace(chr(10), chr(10) + '   ').rstrip()}\n   ```\n", "fenced"),
        (f"~~~python\n{WHOLE}~~~", "fenced"),
        (f"<think>\n```python\ndef wanted(n): return 0\n```\n</think>\n```python\n{WHOLE}```", "fenced"),
        (f"```bash\npip install x\n```\n```python\n{WHOLE}```\n```\n4\n```", "fenced"),
        (f"```python\n{WHOLE}```\n```python\nprint(wanted([int(input())]))\nassert wanted([1]) == 5\n```", "fenced"),
        (f"```python\ndef wanted(n): return 0\n```\nNo, better:\n```python\n{WHOLE}```", "fenced"),
        (
            "```python\ndef twice(x):\n    return x + 3\n```\nand\n```python\nwanted = lambda n: twice(sum(n))\n```",
            "fenced",
        ),
        (f"```python\n{WHOLE}```\nUse it:\n```python\n>>> wanted([1])\n4\n```", "fenced"),
        (f"```python\n{WHOLE}```\nUse it:\n```python\nwanted([1", "fenced"),  # the second block is torn
        (WHOLE, "text"),
        (f"{WHOLE}```\nThis sums them up.", "text"),  # a prompt that opened the fence
        (f"{WHOLE}\n\nif __name__ == '__main__':\n    wanted(input())\n", "text"),
        (f"{WHOLE}\nnumber = int(input())\nprint(wanted([number]))\n", "text"),
        (f"{WHOLE}\n# Example usage:\nprint(", "text"),
        (f"THREE = 3\nimport math\n\n{WHOLE.replace('helper(', 'THREE + (')}", "text"),
        (f"Certainly! Here it is.\n\n{WHOLE}\nHope this helps.", "behind prose"),
    ],
)
def test_the_program_is_found_whatever_is_around_it(text, rule):
    found = find_code(text)
    assert found.rule == rule
    assert run(program(text))["wanted"]([1, 2]) == 6
    crlf = find_code(text.replace("\n", "\r\n"))
    assert (crlf.rule, crlf.value) == (found.rule, found.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t\n",
        "I can't do that.",
        "```bash\nls\n```",
        "```python\n```",
        "<think>\n" + WHOLE,
        "The sum = 3, or so.",
        "```\n4\n```",
        "# Example usage\nassert wanted([1]) == 4",
        "```\n\nThis adds three: the fence closes what the prompt opened.",
    ],
)
def test_what_holds_no_program_gives_no_answer(text):
    assert find_code(text).value is None


def test_the_first_indentation_stays_and_the_wanted_name_is_not_taken_from_elsewhere():
    assert value("\n\n" + BODY) == BODY.rstrip()
    assert program("```python\ndef solution(n):\n    return 1\n```") == "def solution(n):\n    return 1"


def test_imports_from_the_future_and_statements_that_fill_a_table_are_kept():
    text = f"""```python
import sys
from __future__ import annotations
sys.setrecursionlimit(5000)
table = {{}}
for i in range(3):
    table[i] = 3
table.update({{9: 9}})
unused = undefined_name
unittest.main()
try:
    from math import fsum as add
except ImportError:
    add = sum
@decorated
# a comment
def decorated_but_unused(): pass
{WHOLE.replace("helper(", "table[0] + add(numbers) * 0 + (")}```"""
    names = run(program(text))
    assert names["wanted"]([1, 2]) == 6
    assert names["table"] == {0: 3, 1: 3, 2: 3, 9: 9}
    assert not {"unused", "decorated_but_unused"} & set(names)


def test_strings_brackets_and_comments_do_not_end_a_statement():
    source = '''def wanted(n):
    text = """
def not_a_function():
print(1)
"""
# a comment in the body
    return [
        n,
]

# about the next
@cache
@other
class Next:
    pass
'''
    assert [chunk.text.split("\n")[0] for chunk in split_chunks(source)] == ["def wanted(n):", "# about the next"]
    assert run(program(BODY.replace("    total = 0", '    """\nprint(1)\n    """\n    total = 0')))["wanted"]([1]) == 4


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["def f():", "    x", "```", "```python", "#", '"""', "@a", "", "a = 1", "Prose.", "\t", ")"])
    )
)
def test_chunks_add_up_to_the_source_and_nothing_raises(lines):
    source = "\n".join(lines)
    assert "".join(chunk.text for chunk in split_chunks(source)) == source
    found = find_code(source)
    if found.value is not None:
        start, end = found.span
        assert 0 <= start < end <= len(source)
        assemble(found.value, prompt=PROMPT, entry_point="f")


@pytest.mark.parametrize(
    "text",
    [
        *("(" * 10**6, "    " + "(" * 10**6, "def f():\n" * 10**5, "#\n" * 10**6, "```\n" * 10**5, "a," * 10**6),
        *(" " * 10**6, "x" * 10**6, "\ud800\x00def f(", "if " + ":" * 10**6 + "x", "a[" * 10**6, '"""\n' * 10**5),
        *("@a\n" * 10**5, "def f():\n    return f\nf = " + "f." * 10**6, "    " + "=" * 10**6, "\f\n" * 10**5),
        *("import a," + "a," * 10**6, "x = y\n" * 10**5),
    ],
    ids=lambda text: repr(text[:10]),
)
def test_hostile_texts_are_read_in_time(text):
    began = time.process_time()
    found = find_code(text)
    if found.value is not None:
        assemble(found.value, prompt=PROMPT, entry_point="f")
    assert time.process_time() - began < 2


class Letters:
    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (BODY, False),  # may be half a body
        (BODY + "\n\ndef next_problem(x):\n    retu", True),  # the body is whole, and needs nothing of what follows
        (BODY.replace("helper", "third") + "\n\ndef third(x):\n    retu", False),
        (f"```python\n{WHOLE}", False),
        (f"```python\n{WHOLE}```\nand so it wo", True),
        (WHOLE, False),
    ],
)
def test_a_program_that_was_cut_off_is_no_answer(text, counts):
    for reason, expected in ((FinishReason.LENGTH, counts), (FinishReason.EOS, True)):
        completion = Completion(
            token_ids=tuple(map(ord, text)),
            logprobs=None,
            sampling_logprobs=None,
            logprob=None,
            finish_reason=reason,
            usage=Usage(),
        )
        candidate = read_candidate(Letters(), CodeFormat(), 0, Prompt(question="q", token_ids=(1,)), completion)
        assert (candidate.answer is not None) is expected


def test_programs_are_equal_when_they_are_spelt_alike_up_to_what_can_not_be_seen():
    key = CodeFormat().key
    assert key("def f():\n\n    return 1  \n") == key("def f():\n    return 1")
    assert key("def f():\n    return 1") != key("def f():\n  return 1")


# Examples


def calls(question):
    return [example.shown for example in read_examples(question).examples]


def test_examples_are_read_as_docstrings_spell_them():
    question = '''import os

def f(a, b=1):
    r"""Say f(1, 2) twice; g(f(3) == 4.
    >>> f([1, 2], b='x')
    [1,
     2]
    >>> f(0)
    >>> print(f(2))
    5
    >>> f(20) == 21
    True
    >>> f(22) == 23
    False
    f(3) == 4 and f(4) ➞ "a, b"    # because
    f(5) -> -1.5.  f(6) => true; f(7) ==> {1: [2]}
    f(8) = 9, f(9) should return None
    Input: a = 10, b = 2
    Output: (1, 2)
    f(x) == 1, f(11) == 1 + 2, f(12) == 1 or 2, f(13) == f(14), xf(15) == 1, f(os.getcwd()) == 1
    assert f(16) == __import__('os').getpid()
    """
'''
    assert calls(question) == [
        *("f(3) == 4", "f([1, 2], b='x') == [1, 2]", "f(20) == 21"),
        *("f(4) == 'a, b'", "f(5) == -1.5", "f(6) == True", "f(7) == {1: [2]}", "f(8) == 9"),
        *("f(9) == None", "f(a=10, b=2) == (1, 2)"),
    ]
    assert read_examples("def f(a):\n  pass\ndef g(a):\n  '''f(1) == 1, g(2) == 2'''").entry_point == "g"
    assert calls("no code, no asserts: f(1) == 2") == []


@pytest.mark.parametrize(
    "source",
    [
        *("__import__('os').system('x') == f(1)", "f(1) == ().__class__", "f(1) == [x for x in ()]", "f(open) == 1"),
        *("(lambda: f(1))() == 2", "f(1) == 9**9**9", "os.f(1) == 2", "f(1)(2) == 3", "f(1) == f'{open}'"),
        *("math.isclose.__call__(f(1), 2)", "f(1) == math", "f(1) == f", "f(1) == (a := 1)", "f(*[1]) == 2"),
    ],
)
def test_an_example_that_is_more_than_literals_is_left_out(source):
    assert calls(f"assert f(0) == 1\nassert {source}") == ["f(0) == 1"]
    assert calls(f'def f(a):\n    """\n    >>> {source}\n    1\n    """') == []


def test_asserts_may_use_what_mbpp_uses():
    asserts = ["set(f((1, 2))) == {1}", "math.isclose(f(1), 2.0, rel_tol=0.001)", "not f(1)", "f(1) is None"]
    examples = read_examples("\n".join(f"assert {text}" for text in asserts)).examples
    assert [example.test for example in examples] == [f"assert {text}" for text in asserts]
    assert [example.call for example in examples] == ["f((1, 2))", "f(1)", "f(1)", "f(1)"]


def rows(name):
    opened = gzip.open if name.endswith("gz") else open
    with opened(DATA / name, "rt") as file:
        return [json.loads(line) for line in file]


@needs_data
def test_examples_of_humaneval_hold_for_the_canonical_solutions_where_they_are_right():
    """47, 116 and 148 are wrong in the data set, 130 states a sequence where a list is wanted."""
    count, without, contradicted = 0, 0, set()
    for row in rows("humaneval.jsonl"):
        shown = read_examples(row["prompt"])
        assert shown.entry_point == row["entry_point"]
        names = run(row["prompt"] + row["canonical_solution"] + "\n" + SAME)
        count, without = count + len(shown.examples), without + (not shown.examples)
        for example in shown.examples:
            try:
                exec(example.test, names)
            except AssertionError:
                contradicted.add(row["task_id"])
    assert (count, without) == (408, 19)
    assert contradicted == {f"HumanEval/{number}" for number in (47, 116, 130, 148)}
    plus = [(read_examples(row["prompt"]), row["entry_point"]) for row in rows("MbppPlus.jsonl.gz")]
    assert all(shown.entry_point == name for shown, name in plus)
    assert sum(not shown.examples for shown, _ in plus) == 1


@needs_data
def test_whatever_the_form_canonical_solutions_come_back_whole():
    """Run by the data set's own tests in this process: the solutions are the data set's too."""
    for row in rows("humaneval.jsonl"):
        full, name = row["prompt"] + row["canonical_solution"], row["entry_point"]
        texts = [
            row["canonical_solution"],
            row["canonical_solution"] + f"\n\nprint({name}(1))\n\n\ndef other(x):\n    return",
            f"Sure:\n\n```python\n{full}\n```\nUse:\n```python\nprint({name}(input()))\n```\n",
            f"{full}\n\nThis works.",
        ]
        for source in {assemble(value(text), prompt=row["prompt"], entry_point=name) for text in texts}:
            names = run(row["prompt"] + row["test"])
            names[name] = run(source)[name]
            names["check"](names[name])
    for row in rows("mbpp.jsonl"):
        called = re.findall(r"\w+", row["test_list"][0])
        name = next(name for name in called if re.search(rf"def {name}\b", row["code"]))
        if row["task_id"] not in (123, 367, 601, 927):  # slow; tests that make objects of the program's own classes
            names = run(assemble(value(f"```python\n{row['code']}\n```"), prompt="", entry_point=name))
            exec("\n".join([row["test_setup_code"], *row["test_list"]]), names)


def test_cells_are_white_space_to_python():
    assert run(f"a = 1{CELL}b = a + 1")["b"] == 2
