"""The reference world's laws: what is generated, what reads back, and what its labels mean."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.tasks.reference import MAX_DIFFICULTY, MAX_VALUE, Chain, Operation, check_steps, generate, read_answer

chains = st.builds(
    lambda difficulty, seed: generate(difficulty, random.Random(seed)),
    st.integers(1, MAX_DIFFICULTY),
    st.integers(0, 2**32),
)


@given(chains)
def test_every_value_stays_in_range_and_every_operation_counts(chain):
    assert all(0 <= value <= MAX_VALUE for value in chain.values)
    assert all(operation.operand >= 2 for operation in chain.operations)


@given(chains)
def test_a_question_reads_back(chain):
    assert Chain.parse(chain.question) == chain
    assert Chain.parse(chain.question.removesuffix("\n")) == chain  # as a person types it


@given(st.text(alphabet="0123456789+-*,_ \n#=٣", max_size=20))
def test_what_reads_as_a_question_is_printed_the_same(text):
    try:
        chain = Chain.parse(text)
    except ValueError:
        return
    assert chain.question == text.removesuffix("\n") + "\n"


OTHER_SPELLINGS = ["", "\n", "47,", "47,38\n", "047,+38\n", "47, +38\n", "4_7,+38\n", "47,/2\n", "47,+٣\n"]
OTHER_SPELLINGS += ["47,+38\n\n", "47,+38\r\n"]


@pytest.mark.parametrize("question", OTHER_SPELLINGS)
def test_no_other_spelling_of_a_question_is_taken(question):
    with pytest.raises(ValueError):  # noqa: PT011  int() words it in its own way
        Chain.parse(question)


@given(chains)
def test_the_reference_solution_is_right_line_by_line_and_so_is_every_beginning_of_it(chain):
    for count in range(len(chain.steps) + 1):
        assert check_steps(chain, "\n".join(chain.steps[:count])) == [True] * count
    assert read_answer(chain.solution) == str(chain.answer)


@given(chains, st.data())
def test_the_newline_that_ends_a_step_begins_no_line(chain, data):
    # A step is cut behind its newline, so this is what a judge is asked about in the middle of a search.
    count = data.draw(st.integers(1, len(chain.steps)))
    assert check_steps(chain, "\n".join(chain.steps[:count]) + "\n") == [True] * count


@given(chains, st.data())
def test_a_wrong_result_makes_one_line_wrong_and_the_rest_is_judged_from_what_was_written(chain, data):
    at = data.draw(st.integers(0, len(chain.operations) - 1))
    error = data.draw(st.integers(1, 50))
    steps, value = [], chain.start
    for index, operation in enumerate(chain.operations):
        result = operation(value) + (error if index == at else 0)
        if result < 0:
            return  # the world has no negative numbers to write
        steps.append(f"{value}{operation}={result}")
        value = result
    labels = check_steps(chain, "\n".join([*steps, f"#{value}"]))
    assert labels == [index != at for index in range(len(chain.steps))]


@given(chains, st.data())
def test_nothing_after_a_line_that_is_malformed_or_out_of_place_can_be_right(chain, data):
    at = data.draw(st.integers(0, len(chain.operations) - 1))
    line = chain.steps[at]
    other = Operation(operator="+", operand=chain.operations[at].operand + 1)
    value = chain.values[at]
    damages = [
        "",
        " " + line,
        line + " ",
        "0" + line,
        line.replace("=", "=="),
        "#" + line,
        line + "=1",
        "x",
        "1" * 5000,
    ]
    damages += [f"{value}{other}={other(value)}", f"{value + 1}{chain.operations[at]}=5", f"{line[:-1]}٣"]
    damage = data.draw(st.sampled_from(damages))
    labels = check_steps(chain, "\n".join([*chain.steps[:at], damage, *chain.steps[at + 1 :]]))
    assert labels[:at] == [True] * at
    assert not any(labels[at:])


@given(chains)
def test_the_answer_line_repeats_the_last_value_and_nothing_follows_it(chain):
    lines = chain.steps[:-1]
    for last in (f"#{chain.answer + 1}", f"#0{chain.answer}", f"# {chain.answer}", f"{chain.answer}", ""):
        assert check_steps(chain, "\n".join([*lines, last, "x"]))[-2:] == [False, False]
    assert check_steps(chain, chain.solution + f"\n#{chain.answer}")[-1] is False


@given(chains)
def test_a_step_may_not_be_left_out(chain):
    assert not all(check_steps(chain, "\n".join(chain.steps[1:])))


@given(st.text(max_size=60), chains)
def test_any_text_gets_one_label_a_line(text, chain):
    assert len(check_steps(chain, text)) == (len(text.removesuffix("\n").split("\n")) if text else 0)
    read_answer(text)


def test_the_answer_is_the_last_answer_line_without_leading_zeros():
    assert read_answer("1+1=2\n#2\n#0071") == "71"
    assert read_answer("#000") == "0"
    for text in ("", "2", "# 2", "#2 ", "x#2", "#-2", "#2.0", "#٣"):
        assert read_answer(text) is None
    assert read_answer("#" + "1" * 5000) is None  # more digits than int() takes


@pytest.mark.parametrize("difficulty", [-1, 0, MAX_DIFFICULTY + 1])
def test_difficulty_has_bounds(difficulty):
    with pytest.raises(ValueError, match="between 1 and"):
        generate(difficulty, random.Random(0))


def test_each_operator_comes_up_where_it_may():
    chain_list = [generate(8, random.Random(seed)) for seed in range(200)]
    operators = [operation.operator for chain in chain_list for operation in chain.operations]
    for operator in "+-*":
        assert operators.count(operator) > len(operators) / 10
