"""Prompts: the question goes in as it is, once, in the form that the model knows."""

import json

import pytest

from decoding.errors import ConfigError, DataError
from evals.prompts import TEMPLATES, render, template_named


class Letters:
    """A tokenizer with one id a character; 0 opens a prompt, chats are spelt out."""

    eos_token_ids = frozenset({1})

    def __init__(self, *, chat: bool) -> None:
        self.has_chat_template = chat

    def encode(self, text):
        return (0, *map(ord, text))

    def decode(self, token_ids):
        return "".join(chr(token) for token in token_ids if token > 1)

    def render_chat(self, messages):
        return self.encode("".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>")


def text_of(spec, question, *, chat=True, data_dir=None):
    tokenizer = Letters(chat=chat)
    prompt = render(template_named(spec, data_dir=data_dir), question, tokenizer)
    assert prompt.question == question
    return tokenizer.decode(prompt.token_ids)


@pytest.fixture
def train(tmp_path):
    rows = [{"question": f"q{i}", "answer": f"{i} of them\n#### {i}"} for i in range(20)]
    (tmp_path / "gsm8k_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_plain_is_the_question_and_nothing_else():
    assert text_of("plain", "47,+38\n") == "47,+38\n"
    assert text_of("plain", "47,+38\n", chat=False) == "47,+38\n"


@pytest.mark.parametrize("name", [name for name, template in TEMPLATES.items() if template.chat])
def test_chat_templates_become_messages_where_the_model_knows_chats_and_one_text_where_not(name):
    template = TEMPLATES[name]
    chat, text = text_of(name, "How many?"), text_of(name, "How many?", chat=False)
    assert chat.startswith("<user>" if template.system is None else "<system>" + template.system + "<user>")
    assert chat.endswith("<assistant>")
    assert "<user>" not in text
    for rendered in (chat, text):
        assert rendered.count("How many?") == 1
        assert (template.system or "") in rendered


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("question", ["{question}", r"What is \frac{1}{2} {} {0} %s $x$?", "", "a\n\nb"])
def test_a_question_goes_in_as_it_is(name, question):
    frame = text_of(name, "QQ")
    assert text_of(name, question) == frame.replace("QQ", question)


def test_published_instructions_are_spelt_as_published():
    assert text_of("boxed", "q").startswith(
        "<system>Please reason step by step, and put your final answer within \\boxed{}.<user>"
    )
    system = TEMPLATES["search_and_learn"].system
    assert "Therefore, the final answer is: $\\boxed{answer}$. I hope it is correct." in system
    assert "\n\n## Step 2: [Concise description]\n[Brief explanation and calculations]\n\n...\n\n" in system


def test_few_shot_puts_solved_problems_before_the_question_and_shares_them(train):
    first = text_of("few_shot:3", "new?", data_dir=train)
    assert first.count("Question: ") == 4
    assert first.endswith("\n\nQuestion: new?\nAnswer:")
    assert first.removesuffix("new?\nAnswer:") == text_of("few_shot:3", "other", data_dir=train).removesuffix(
        "other\nAnswer:"
    )
    template = template_named("few_shot:3", data_dir=train)
    assert template.stop == ("\nQuestion:",)
    assert not any(stop in block for block in first.split("\n\n") for stop in template.stop)


def test_few_shot_takes_the_first_in_hash_order_so_fewer_are_a_beginning_of_more(train):
    few, more = (template_named(f"few_shot:{k}", data_dir=train).frame.split("\n\n")[:-1] for k in (3, 5))
    assert more[:3] == few
    assert more != [f"Question: q{i}\nAnswer: {i} of them\n#### {i}" for i in range(5)]


def test_few_shot_says_what_is_lacking(train):
    with pytest.raises(DataError, match="20"):
        template_named("few_shot:21", data_dir=train)
    with pytest.raises(DataError, match="gsm8k_train"):
        template_named("few_shot:2", data_dir=train / "nowhere")
    for spec in ("few_shot", "few_shot:", "few_shot:0", "few_shot:-1", "few_shot:x"):
        with pytest.raises(ConfigError, match="few_shot:<k>"):
            template_named(spec)


def test_an_unknown_prompt_is_answered_with_close_names_and_the_list():
    with pytest.raises(ConfigError, match=r"did you mean zero_shot.*plain, chat"):
        template_named("zeroshot")
