"""What is read over a pool of tokens is what a plain forward says, whatever the order, the batch and the evictions."""

import asyncio
import random
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
)

from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from decoding.models import resolve
from decoding.runtime.prefix_tree import PrefixTree
from training.policy import tokenizer
from verifiers.judges.reader import Head
from verifiers.judges.types import ScoreKind
from verifiers.models.prefix_reader import Question
from verifiers.models.transformers_reader import open_transformers_reader

VOCABULARY, CONTEXT = 32, 48
COLUMNS = (5, 3)
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
}
LLAMA = (LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, {"num_key_value_heads": 4})
QWEN2 = (Qwen2Config, Qwen2ForCausalLM, Qwen2ForTokenClassification, {"num_key_value_heads": 2})
ROW = (1, 7, 9, 4, 4, 20, 31, 2, 8, 8, 8, 5)


@dataclass(frozen=True)
class ReadOut:
    head: Head
    kind: ScoreKind = ScoreKind.LOGIT

    def columns(self, tokenizer):
        return COLUMNS if self.head is Head.TOKENS else ()

    def scores(self, rows):
        return tuple(row[0] for row in rows)


def build(folder, family, *, labels=None, head=None):
    """A model with random weights, saved; a classifier with `labels`, whose head is replaced by tensors in `head`."""
    config, causal, classifier, more = family
    torch.manual_seed(0)
    shape = {**SHAPE, **more} | ({} if labels is None else {"num_labels": labels})
    model = (causal if labels is None else classifier)(config(**shape)).eval()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    if head is not None:
        body = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("score.")}
        save_file(body | head, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def open_on(folder, head, **options):
    options = {"threads": 1, **options}
    return open_transformers_reader(resolve(str(folder)), ReadOut(head), **options)


def plain(model, head, row):
    """All that could be read of a row, [T][columns], by one forward without a cache."""
    with torch.inference_mode():
        logits = model(torch.tensor([row]), use_cache=False).logits[0].float()
    if head in (Head.CLASSES, Head.SCALAR):
        return logits.tolist()
    logprobs = logits.log_softmax(-1)
    if head is Head.TOKENS:
        return logprobs[:, list(COLUMNS)].tolist()
    return [[0.0], *([logprobs[i, token].item()] for i, token in enumerate(row[1:]))]


def equal(rows, wanted):
    return np.allclose(rows, wanted, rtol=0, atol=1e-4)


def read_all(reader, questions):
    async def work():
        return await asyncio.gather(*(reader.read(row, positions) for row, positions in questions))

    return asyncio.run(work())


def read_one(reader, row, positions=None):
    return read_all(reader, [(row, positions or (len(row) - 1,))])[0]


def close(reader):
    asyncio.run(reader.aclose())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    return folder, build(folder, QWEN2)


@pytest.fixture
def reader(causal):
    reader = open_on(causal[0], Head.TOKENS)
    yield reader
    close(reader)


@pytest.mark.parametrize("family", [LLAMA, QWEN2], ids=["llama", "qwen2"])
@pytest.mark.parametrize("head", list(Head))
def test_all_heads_read_what_a_plain_forward_says(tmp_path, family, head):
    labels = {Head.CLASSES: 2, Head.SCALAR: 1}.get(head)
    model = build(tmp_path, family, labels=labels)
    reader = open_on(tmp_path, head)
    assert reader.info.parameters == sum(entry.numel() for entry in model.parameters())
    positions = (1, 4, len(ROW) - 1)
    readings = read_one(reader, ROW, positions)
    assert equal(readings.rows, [plain(model, head, ROW)[p] for p in positions])
    assert (readings.computed, readings.cached) == (len(ROW), 0)
    close(reader)


def two_layers(outputs, hidden=64):
    return {
        "score.0.weight": torch.randn(hidden, hidden) / 8,
        "score.0.bias": torch.randn(hidden),
        "score.2.weight": torch.randn(outputs, hidden) / 8,
        "score.2.bias": torch.randn(outputs),
    }


def one_layer(prefix, outputs, hidden=64, bias=True):
    return {f"{prefix}.weight": torch.randn(outputs, hidden) / 8} | (
        {f"{prefix}.bias": torch.randn(outputs)} if bias else {}
    )


HEADS = [
    pytest.param(Head.CLASSES, two_layers(2), id="Qwen2ForProcessRewardModel"),
    pytest.param(Head.SCALAR, two_layers(1), id="Qwen2ForRewardModel"),
    pytest.param(Head.SCALAR, one_layer("v_head.summary", 1), id="Skywork-o1-Open-PRM"),
    pytest.param(Head.SCALAR, one_layer("value_head", 1, bias=False), id="value_head"),
]


def hidden_states(model, row):
    with torch.inference_mode():
        return model.base_model(torch.tensor([row]), use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize(("head", "tensors"), HEADS)
def test_heads_that_bring_code_of_their_own_are_read_by_their_tensors(tmp_path, head, tensors):
    model = build(tmp_path, QWEN2, labels=2, head=tensors)
    states = hidden_states(model, ROW)
    if "score.0.weight" in tensors:
        states = (states @ tensors["score.0.weight"].T + tensors["score.0.bias"]).relu()
    last = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")][-1]
    wanted = states @ tensors[f"{last}.weight"].T + tensors.get(f"{last}.bias", 0)
    reader = open_on(tmp_path, head)
    readings = read_one(reader, ROW, (3, 11))
    assert equal(readings.rows, wanted[[3, 11]])
    close(reader)


def test_a_head_in_a_file_of_its_own(tmp_path):
    """AlphaMath keeps its value head in value_head.pth, TRL's trainers in value_head.safetensors or .bin."""
    model = build(tmp_path, LLAMA)
    head = one_layer("v_head.summary", 1)
    torch.save(head, tmp_path / "value_head.pth")
    reader = open_on(tmp_path, Head.SCALAR)
    wanted = hidden_states(model, ROW)[-1] @ head["v_head.summary.weight"][0] + head["v_head.summary.bias"]
    assert equal(read_one(reader, ROW).rows[0], [wanted.item()])
    close(reader)


@st.composite
def turns(draw):
    """Rows that branch off one another, in batches, in any order; some are prefixes of others, some come again."""
    rows = [tuple(draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=20)))]
    for _ in range(draw(st.integers(3, 9))):
        parent = draw(st.sampled_from(rows))
        kept = draw(st.integers(0, len(parent)))
        more = draw(st.lists(st.integers(0, 2), min_size=0, max_size=CONTEXT - kept))
        rows.append((parent[:kept] + tuple(more)) if kept + len(more) > 1 else parent)
    order = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]


@pytest.fixture(scope="module")
def cramped(causal):
    """Readers with room for little more than one whole row, and tiny forwards."""
    readers = {
        head: open_on(causal[0], head, cache_tokens=CONTEXT + 12, batch_tokens=16) for head in (Head.TOKENS, Head.TEXT)
    }
    yield readers
    for reader in readers.values():
        close(reader)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=turns(), head=st.sampled_from([Head.TOKENS, Head.TEXT]), rng=st.randoms(use_true_random=False))
def test_order_batches_and_evictions_change_nothing(causal, cramped, turns, head, rng):
    for batch in turns:
        questions = []
        for row in batch:
            positions = sorted(rng.sample(range(1, len(row)), rng.randint(1, len(row) - 1)))
            questions.append((row, tuple(positions)))
        for (row, positions), readings in zip(questions, read_all(cramped[head], questions), strict=True):
            wanted = plain(causal[1], head, row)
            assert equal(readings.rows, [wanted[p] for p in positions])
            assert readings.computed + readings.cached == positions[-1] + 1


def distinct(rows):
    return len({row[: i + 1] for row in rows for i in range(len(row))})


@pytest.mark.parametrize("at_once", [True, False])
def test_every_token_of_a_tree_is_computed_once(reader, at_once):
    """Brothers that come together share what neither has yet; those that come later find it."""
    rng = random.Random(1)
    rows, level = [], [ROW]
    for _ in range(4):  # a beam: of six children the best two are kept
        children = [row + tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(3, 8))) for row in level * 3]
        rows += children
        level = rng.sample(children, 2)
    questions = [(row, (len(row) - 1,)) for row in rows]
    answers = read_all(reader, questions) if at_once else [read_all(reader, [q])[0] for q in questions]
    assert sum(answer.computed for answer in answers) == reader.counts["computed"] == distinct(rows)


def test_steps_read_one_by_one_are_the_whole_read_at_once(causal, reader):
    ends = (3, 5, 8, 11)
    stepwise = [read_one(reader, ROW[: end + 1], ends[: i + 1]) for i, end in enumerate(ends)]
    assert [(r.computed, r.cached) for r in stepwise] == [(4, 0), (2, 4), (3, 6), (3, 9)]
    for readings in stepwise:
        assert readings.rows == stepwise[-1].rows[: len(readings.rows)]
    other = open_on(causal[0], Head.TOKENS)
    assert equal(stepwise[-1].rows, read_one(other, ROW, ends).rows)
    close(other)


def test_ids_after_the_last_position_cost_nothing(reader):
    assert read_one(reader, ROW, (2,)).computed == 3


@given(rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=12))
def test_a_slot_is_a_prefix(rows):
    tree, places = PrefixTree(100, first=7), {}
    for row in rows:
        known = tree.known(row)
        path = tree.extend(row)
        assert known == path.known == max(n for n in range(len(row) + 1) if row[:n] in places or n == 0)
        for length, slot in enumerate(path.slots, start=1):
            assert places.setdefault(row[:length], slot) == slot
    assert len(set(places.values())) == len(places) == tree.size
    assert all(7 <= slot < 107 for slot in places.values())


def test_what_was_asked_for_last_stays_longest():
    tree = PrefixTree(12)
    for row in [(1, 1, 1, 1), (1, 1, 2, 2), (3, 3, 3, 3), (1, 1, 1, 1), (4, 4, 4)]:
        tree.begin()
        tree.extend(row)
    tree.begin()
    assert [tree.known(row) for row in [(1, 1, 1, 1), (1, 1, 2, 2), (3, 3, 3, 3)]] == [4, 2, 4]


def test_rows_of_a_turn_stay_while_it_lasts():
    """What is freed ahead of need is never what the turn has just been given."""
    tree = PrefixTree(16)
    tree.begin()
    for i in range(8):
        tree.extend((10 + i, 0))
    tree.begin()
    rows = [(i,) * 5 for i in range(3)]
    slots = [slot for row in rows for slot in tree.extend(row).slots]
    assert [tree.known(row) for row in rows] == [5, 5, 5]
    assert len(set(slots)) == 15


def test_callers_on_several_loops_some_of_whom_leave(causal, reader):
    """A cancelled caller takes nobody along, and closing answers all who wait."""
    rng = random.Random(2)
    rows = [tuple(rng.randrange(VOCABULARY) for _ in range(30)) for _ in range(60)]
    answers = {}

    async def caller(part):
        tasks = {row: asyncio.create_task(reader.read(row, (29,))) for row in part}
        await asyncio.sleep(0)
        for row in part[::5]:
            tasks[row].cancel()
        for row, task in tasks.items():
            try:
                answers[row] = (await task).rows[0]
            except asyncio.CancelledError:
                answers[row] = None

    threads = [threading.Thread(target=asyncio.run, args=(caller(rows[i::3]),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    cancelled = {row for i in range(3) for row in rows[i::3][::5]}
    assert {row for row, answer in answers.items() if answer is None} == cancelled
    for row in set(rows) - cancelled:
        assert equal(answers[row], plain(causal[1], Head.TOKENS, row)[-1])


def test_closing_answers_those_who_wait(causal):
    reader = open_on(causal[0], Head.TOKENS, batch_tokens=8)

    async def work():
        waiting = [asyncio.create_task(reader.read((*ROW, i), (12,))) for i in range(20)]
        await asyncio.sleep(0)
        await reader.aclose()
        await reader.aclose()
        with pytest.raises(EngineError, match="closed"):
            await reader.read(ROW, (3,))
        return await asyncio.gather(*waiting)

    assert len({answer.rows for answer in asyncio.run(work())}) == 20


def test_what_is_no_number_is_an_error_that_names_the_model_and_poisons_nobody(tmp_path):
    model = build(tmp_path, LLAMA, labels=2)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.embed_tokens.weight"][13] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reader = open_on(tmp_path, Head.CLASSES)
    # The bad row is padded to the width of the longest, and what its padding computes is no number either.
    rows = [(8, 13), ROW, ROW[3:9]]

    for _ in range(2):
        failed, *others = reader._reader.read([Question(row, (len(row) - 1,)) for row in rows])  # in one forward
        assert isinstance(failed, EngineError)
        assert str(tmp_path) in str(failed)
        assert "position 1" in str(failed)
        for row, other in zip(rows[1:], others, strict=True):
            assert equal(other.rows[0], plain(model, Head.CLASSES, row)[-1])
    with pytest.raises(EngineError, match="position 1"):
        read_one(reader, rows[0])
    close(reader)


def test_rows_that_cannot_be_read(reader):
    for row, positions, error, words in [
        ((1,) * (CONTEXT + 1), (CONTEXT,), ContextError, f"{CONTEXT + 1} tokens.*{CONTEXT}"),
        ((1, 2, VOCABULARY), (1,), ConfigError, f"holds {VOCABULARY}.*end at {VOCABULARY - 1}"),
        ((1, -1), (1,), ConfigError, "holds -1"),
        ((1, 2), (2,), ConfigError, "positions"),
        ((1, 2), (1, 1), ConfigError, "positions"),
        ((1, 2), (), ConfigError, "positions"),
    ]:
        with pytest.raises(error, match=words):
            read_one(reader, row, positions) if positions else read_all(reader, [(row, positions)])


def test_nothing_stands_before_the_first_token(causal):
    reader = open_on(causal[0], Head.TEXT)
    with pytest.raises(ConfigError, match="nothing stands before"):
        read_one(reader, ROW, (0,))
    close(reader)


@pytest.mark.parametrize(
    ("head", "tensors", "words"),
    [
        (Head.CLASSES, one_layer("score", 1), r"2 outputs or more, found score.bias \[1\], score.weight \[1, 64\]"),
        (Head.SCALAR, one_layer("score", 2), "1 output, found"),
        (Head.SCALAR, one_layer("v_head.summary", 1, hidden=32), "from 64 numbers"),
        (Head.SCALAR, {}, "no head"),
        (Head.SCALAR, one_layer("score", 1) | one_layer("v_head", 1), "Known are"),
        (Head.SCALAR, one_layer("score", 1) | {"gating.0.weight": torch.zeros(3, 3)}, "gating.0.weight"),
    ],
)
def test_heads_of_another_shape(tmp_path, head, tensors, words):
    build(tmp_path, LLAMA, labels=2, head=tensors)
    with pytest.raises(ModelError, match=words) as caught:
        open_on(tmp_path, head)
    assert str(tmp_path) in str(caught.value)


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    """Transformers fills them with random numbers, and a judge would score at random."""
    build(tmp_path, LLAMA, labels=2)
    with pytest.raises(ModelError, match=r"lacks weights.*lm_head"):
        open_on(tmp_path, Head.TOKENS)


@pytest.mark.parametrize("options", [{"dtype": "int3"}, {"max_contxt": 3}, {"cache_tokens": 20, "max_context": 40}])
def test_options_that_cannot_work(causal, options):
    with pytest.raises(ConfigError):
        open_on(causal[0], Head.TOKENS, **options)
