"""Formats of judges: splits, ids and read positions, read-outs, and judges over readers."""

import asyncio
import importlib
import json
import math
import shutil
from pathlib import Path

import pytest

from decoding.errors import ConfigError, ContextError, EngineError, ModelError
from decoding.models import EMBEDDED
from evals.tasks.reference import Chain
from verifiers.judges.aggregate import aggregate
from verifiers.judges.catalogue import JUDGES, ROLE_OF_FORMAT, ROLES
from verifiers.judges.checked import CHECKED, is_verified, tokenizer_checksum
from verifiers.judges.formats import FORMATS, format_by_name
from verifiers.judges.open import open_judge
from verifiers.judges.process import PrefixValue, SolutionReward, StepJudge
from verifiers.judges.reader import Head, ReaderInfo, Readings
from verifiers.judges.readouts import LeastLikely, LogRatio, Scalar, TokenPair, TwoClasses
from verifiers.judges.splits import AtDelimiter, AtEndings, AtHeadings, Undivided
from verifiers.judges.types import OutcomeRewardModel, ProcessRewardModel, ScoreKind, Solution, ValueModel

FIXTURE = Path(__file__).parent / "fixtures" / "judge_formats.json"
REFERENCE = Path(__file__).parents[1] / "decoding" / "embedded" / "reference-base"
SPECIAL = ["<bos>", "<eos>", "<user>", "<answer>", "<end>", "<extra_0>", "[PRM]", "<yes>", "<no>"]
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<answer>' if m.role == 'assistant' else '<user>' }}"
    "{{ m.content | trim }}<end>\n{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
STEPS = ("Step 1: 2 + 3 = 5.", "Step 2: 5 * 4 = 20.\nSo it is 20.", "Step 3: \\boxed{20}")
QUESTION = "What is (2 + 3) * 4?"


def tokenizer_of(*, without=(), bos="<bos>"):
    """Byte-level BPE, learnt from a few lines, that cuts words as Qwen's does: newlines go with signs before them."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), in_bytes])
    raw.decoder = decoders.ByteLevel()
    corpus = [f"{QUESTION}\n" + "\n\n".join(STEPS), "a.\n\nb.\n\n"] * 8
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    raw.train_from_iterator(corpus, trainer)
    raw.add_tokens([AddedToken(text, normalized=False) for text in ("ки", "+", "-") if text not in without])
    raw.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL if text not in without])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token="<end>", name_or_path="tiny")
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of()


@pytest.fixture(scope="module")
def reference():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(REFERENCE)


class Told:
    """A reader whose numbers are a function of the ids up to a position."""

    def __init__(self, tokenizer, columns, *, context_length=4096, parameters=10, say=None, shift=0.0):
        self.tokenizer, self._columns, self._say, self._shift = tokenizer, columns, say, shift
        self.asked, self.closed = [], 0
        self.info = ReaderInfo(
            backend="told",
            model="told",
            revision="1",
            parameters=parameters,
            context_length=context_length,
            prefix_cache=False,
        )

    def number(self, ids, position, column):
        return math.sin(sum((k + 1) * token for k, token in enumerate(ids[: position + 1])) + column) + self._shift

    async def read(self, token_ids, positions):
        self.asked.append((token_ids, positions))
        rows = tuple(tuple(self.number(token_ids, p, c) for c in range(self._columns)) for p in positions)
        return Readings(rows=self._say or rows, computed=len(token_ids) - 2, cached=2)

    async def aclose(self):
        self.closed += 1


COLUMNS = {Head.CLASSES: 2, Head.SCALAR: 1, Head.TOKENS: 2, Head.TEXT: 1}


def judge_of(name, tokenizer, **settings):
    judged = format_by_name(name)
    columns = COLUMNS[judged.read_out.head]
    second = Told(tokenizer, columns, shift=0.5) if judged.read_out.models == 2 else None
    reader = Told(tokenizer, columns, **settings)
    return StepJudge(reader, judged, name=f"a {name}", reference=second), reader


@pytest.mark.parametrize(
    ("split", "text", "steps"),
    [
        (AtDelimiter("\n"), "a\n\n b\n", ("a", "b")),
        (AtDelimiter("\n\n"), "a\nb\n\n\nc", ("a\nb", "c")),
        (AtDelimiter("ки\n"), "a ки\nb ки\n", ("a", "b")),
        (AtHeadings(), "Hm.\nStep 1: a\nb\nStep 2: in Step 3: c", ("Hm.\nStep 1: a\nb", "Step 2: in Step 3: c")),
        (AtHeadings(), "a\n\nb", ("a", "b")),
        (
            AtEndings("</step>"),
            "<step>a</step>\n<step>b</step>\n<step>c",
            ("<step>a</step>", "<step>b</step>", "<step>c"),
        ),
        (Undivided(), " a\n\nb", (" a\n\nb",)),
    ],
)
def test_texts_fall_into_steps(split, text, steps):
    assert split(text) == steps


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", ["", "\n\n", "one"])
def test_every_text_has_a_step(name, text):
    assert FORMATS[name].split(text) == (text,)


def test_a_judge_of_the_reference_world_reads_what_the_policy_read(reference):
    chain = Chain.parse("47,+38,*6,-19")
    expected = reference("<bos>" + chain.question + chain.solution + "\n", add_special_tokens=False)["input_ids"]
    for question in (chain.question, chain.question.removesuffix("\n")):
        rendered = FORMATS["reference-prm"].template.render(
            reference, Solution(question=question, steps=tuple(chain.steps))
        )
        assert list(rendered.token_ids) == expected
        newline = reference.convert_tokens_to_ids("\n")
        assert list(rendered.positions) == [at for at, token in enumerate(expected) if token == newline][1:]
    assert FORMATS["reference-prm"].template == FORMATS["reference-value"].template
    assert is_verified("reference-prm", reference)
    assert not is_verified("trl", reference)


@pytest.mark.parametrize("name", FORMATS)
def test_scores_are_as_many_as_steps_and_do_not_depend_on_what_follows(name, tokenizer):
    """A prefix's ids begin the whole's, as far as the tokenizer allows: only an answer's last token may merge."""
    template = FORMATS[name].template
    whole = template.render(tokenizer, Solution(question=QUESTION, steps=STEPS))
    for count in range(1, len(STEPS) + 1):
        solution = Solution(question=QUESTION, steps=STEPS[:count], finished=False)
        part = template.render(tokenizer, solution)
        assert len(part.positions) == count
        assert part.positions[-1] == len(part.token_ids) - 1
        assert 0 <= part.answer <= part.positions[0] < part.positions[-1] + 1
        if count < len(STEPS):
            assert part.positions == whole.positions[:count]
            assert part.token_ids == whole.token_ids[: len(part.token_ids)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_mark_that_a_step_spells_out_is_not_read(name, tokenizer):
    """Selecting by id, as the cards' snippets do, gives more scores than steps."""
    steps = ("a <extra_0> b", "ки [PRM] +", "c\nd")
    rendered = FORMATS[name].template.render(tokenizer, Solution(question="1\n<extra_0> ки +?", steps=steps))
    assert len(rendered.positions) == len(steps) == len(set(rendered.positions))


@pytest.mark.parametrize(
    ("name", "text", "last"),
    [
        ("qwen-prm", "<bos><user>B<end>\n<user>Q<end>\n<answer>a<extra_0>b<extra_0>", ["<extra_0>"] * 2),
        ("skywork-prm", "<bos>Q\na\nb\n", ["\n"] * 2),
        ("trl", "<bos>Qa\nb\n", ["\n"] * 2),
        ("math-shepherd", "<bos>Q Step 1: a ки\nStep 2: b ки", ["ки"] * 2),
        ("rlhflow-deepseek", "<bos><user>Q a<end>\n<answer>+<end>\n<user>b<end>\n<answer>", ["<answer>"] * 2),
        ("alphamath-value", "<bos><question> Q </question>\na\nb\n", None),
        ("eurus-stage1", "<bos><user>Q<end>\n<answer>Step 1: a\n\nStep 2: b<end>", None),
        ("chat-reward", "<bos><user>Q<end>\n<answer>a\n\nb<end>\n", None),
    ],
)
def test_what_a_model_reads(name, text, last, tokenizer):
    rendered = FORMATS[name].template.render(tokenizer, Solution(question="Q", steps=("a", "b")))
    shown = tokenizer.decode(rendered.token_ids)
    assert shown.replace("Please reason step by step, and put your final answer within \\boxed{}.", "B") == text
    if last is not None:
        assert [tokenizer.decode([rendered.token_ids[at]]) for at in rendered.positions] == last
    if name != "rlhflow-deepseek":
        assert shown.startswith(
            "a" if "Step" not in text else "Step", len(tokenizer.decode(rendered.token_ids[: rendered.answer]))
        )


def test_pieces_keep_newlines_apart_where_a_whole_text_merges_them(tokenizer):
    """The position of a step moves if a token spans its end: with a whole text the newline belongs to ``.\\n\\n``."""
    solution = Solution(question="Q", steps=("a.\n", "b."))
    rendered = FORMATS["skywork-prm"].template.render(tokenizer, solution)
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert [rendered.token_ids[at] for at in rendered.positions] == newline * 2
    whole = tokenizer("Q\na.\n\nb.\n", add_special_tokens=False)["input_ids"]
    assert whole.count(newline[0]) < rendered.token_ids.count(newline[0])


def test_stored_ids_are_those_of_the_tokenizers_that_are_recorded(reference):
    stored = json.loads(FIXTURE.read_text())
    assert set(stored) == set(FORMATS) - {"reference-prm", "reference-value", "reference-lm", "alphamath-value"}
    for name, entry in stored.items():
        assert entry["sha256"] == CHECKED[name].sha256
        assert len(entry["positions"]) == len(entry["steps"])
        assert entry["positions"][-1] == len(entry["token_ids"]) - 1
        assert bool(entry["columns"]) == (FORMATS[name].read_out.head is Head.TOKENS)
    shepherd = stored["math-shepherd"]
    assert [shepherd["token_ids"][at] for at in shepherd["positions"]] == [12902, 12902]
    assert shepherd["columns"] == [648, 387]
    qwen = stored["qwen-prm"]
    assert [qwen["token_ids"][at] for at in qwen["positions"]] == [151651, 151651]
    assert CHECKED["reference-prm"].sha256 == tokenizer_checksum(reference)


def test_a_tokenizers_checksum_sees_every_added_token():
    assert tokenizer_checksum(tokenizer_of()) == tokenizer_checksum(tokenizer_of())
    sums = {tokenizer_checksum(tokenizer_of(without=without)) for without in ((), ("[PRM]",), ("ки",))}
    assert len(sums) == 3


def test_read_outs_agree_with_softmax_and_stay_finite():
    rows = [(0.3, -1.2), (-2.0, 2.5), (700.0, -700.0), (-1e4, 1e4)]

    def softmax(row, index):
        largest = max(row)
        shares = [math.exp(x - largest) for x in row]
        return shares[index] / sum(shares)

    assert TwoClasses().scores(rows) == pytest.approx([softmax(row, 1) for row in rows], abs=1e-15)
    assert TwoClasses(right=0).scores(rows) == pytest.approx([softmax(row, 0) for row in rows], abs=1e-15)
    assert TokenPair().scores(rows) == pytest.approx([softmax(row, 0) for row in rows], abs=1e-15)
    apart = [softmax(row, 1) - softmax(row, 0) for row in rows]
    assert TwoClasses(difference=True).scores(rows) == pytest.approx(apart, abs=1e-15)
    assert Scalar(kind=ScoreKind.PROBABILITY).scores([(0.4,), (-1e4,)]) == pytest.approx(
        [1 / (1 + math.exp(-0.4)), 0.0]
    )
    assert Scalar(kind=ScoreKind.VALUE).scores([(0.4,), (1e4,)]) == pytest.approx([math.tanh(0.4), 1.0])
    assert Scalar().scores([(-3.25,)]) == (-3.25,)
    assert LogRatio(beta=0.5).scores([(-1.0, -2.0), (-4.0, -1.0)]) == pytest.approx([0.5, -1.0])


@pytest.mark.parametrize("read_out", [TwoClasses(), Scalar(), TokenPair(), LogRatio()])
@pytest.mark.parametrize("row", [(math.nan, 0.0), (math.inf, 0.0), (1.0, 2.0, 3.0), (math.nan,), ()])
def test_read_outs_refuse_what_is_no_number_or_another_head(read_out, row):
    with pytest.raises(EngineError, match="finite"):
        read_out.scores([row])


def test_scores_are_aggregated_by_the_ways_in_use():
    scores = (0.5, 0.25, 0.75)
    found = {how: aggregate(scores, how, ScoreKind.PROBABILITY) for how in ("last", "min", "product", "mean")}
    assert found == pytest.approx({"last": 0.75, "min": 0.25, "product": 0.09375, "mean": 0.5})
    for how, kind in (("product", ScoreKind.LOGIT), ("model", ScoreKind.PROBABILITY), ("max", ScoreKind.PROBABILITY)):
        with pytest.raises(ConfigError):
            aggregate(scores, how, kind)


@pytest.mark.parametrize("name", FORMATS)
def test_a_judge_reads_its_positions_and_tells_what_it_cost(name, tokenizer):
    judge, reader = judge_of(name, tokenizer)
    solution = Solution(question=QUESTION, steps=STEPS)
    done = asyncio.run(judge.score_steps(solution))
    rendered = FORMATS[name].template.render(tokenizer, solution)
    assert len(done.scores) == len(STEPS)
    models = 2 if name.startswith("eurus") else 1
    assert judge.tokens(solution) == models * len(rendered.token_ids)
    assert done.usage.scored_tokens == models * (len(rendered.token_ids) - 2)
    assert (done.usage.scored_tokens_cached, done.usage.flops) == (2 * models, 20.0 * done.usage.scored_tokens)
    if FORMATS[name].read_out.head is not Head.TEXT:
        assert reader.asked == [(rendered.token_ids, rendered.positions)]
        rows = [[reader.number(rendered.token_ids, p, c) for c in range(reader._columns)] for p in rendered.positions]
        assert done.scores == FORMATS[name].read_out.scores(rows)
    assert isinstance(judge, ProcessRewardModel)
    asyncio.run(judge.aclose())
    assert reader.closed == 1


def test_log_ratios_are_summed_over_the_answer_up_to_each_step(tokenizer):
    judge, reader = judge_of("eurus-stage1", tokenizer)
    solution = Solution(question=QUESTION, steps=STEPS)
    done = asyncio.run(judge.score_steps(solution))
    ids, positions, answer = FORMATS["eurus-stage1"].template.render(tokenizer, solution)
    assert reader.asked == [(ids, tuple(range(answer, positions[-1] + 1)))]
    # The two readers differ by half a nat at every token.
    assert done.scores == pytest.approx([0.001 * -0.5 * (at + 1 - answer) for at in positions])
    with pytest.raises(ConfigError, match="reference"):
        StepJudge(reader, FORMATS["eurus-stage1"], name="e")
    with pytest.raises(ConfigError, match="reference"):
        StepJudge(reader, FORMATS["trl"], name="e", reference=reader)


def test_values_and_rewards_read_one_number(tokenizer):
    solution = Solution(question=QUESTION, steps=STEPS)
    reader = Told(tokenizer, 1)
    value = PrefixValue(reader, FORMATS["alphamath-value"], name="v")
    steps = asyncio.run(StepJudge(reader, FORMATS["alphamath-value"], name="s").score_steps(solution))
    assert asyncio.run(value.value(solution)).scores == steps.scores[-1:]
    assert [len(positions) for _, positions in reader.asked] == [3, 1]
    reward = SolutionReward(reader, FORMATS["chat-reward"], name="r")
    whole = Solution(question=QUESTION, steps=("\n\n".join(STEPS),))
    assert asyncio.run(reward.reward(solution)) == asyncio.run(reward.reward(whole))
    assert tokenizer.decode(reader.asked[-1][0]).endswith("\\boxed{20}<end>\n")
    assert reward.tokens(solution) == len(reader.asked[-1][0])
    kinds = ((value, ValueModel), (reward, OutcomeRewardModel))
    assert [[isinstance(judge, kind) for _, kind in kinds] for judge, _ in kinds] == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("qwen-prm", "<extra_0>"), ("pqm", "[PRM]"), ("math-shepherd", "ки"), ("reference-prm", "<no>")],
)
def test_a_tokenizer_without_the_step_token_is_refused_when_the_judge_is_opened(name, lacking):
    with pytest.raises(ModelError) as refused:
        judge_of(name, tokenizer_of(without=(lacking,)))
    assert f"a {name}" in str(refused.value)
    assert repr(lacking) in str(refused.value)


def test_what_a_model_cannot_answer_is_an_error_that_names_it(tokenizer):
    solution = Solution(question=QUESTION, steps=STEPS)
    length = judge_of("trl", tokenizer)[0].tokens(solution)
    short, reader = judge_of("trl", tokenizer, context_length=length - 1)
    with pytest.raises(ContextError, match=f"a trl.* {length} tokens.* {length - 1}"):
        asyncio.run(short.score_steps(solution))
    assert reader.asked == []
    exact, _ = judge_of("trl", tokenizer, context_length=length)
    assert len(asyncio.run(exact.score_steps(solution)).scores) == 3
    for said, found in ((((math.nan, 0.0),) * 3, "nan"), (((1.0,),) * 3, "1.0"), (((1.0, 2.0),), "1")):
        judge, _ = judge_of("trl", tokenizer, say=said)
        with pytest.raises(EngineError, match=f"a trl.*{found}"):
            asyncio.run(judge.score_steps(solution))
    bare = tokenizer_of()
    bare.chat_template = None
    with pytest.raises(ModelError, match=r"a qwen-prm.*chat template"):
        judge_of("qwen-prm", bare)


def test_the_catalogue_names_what_can_be_opened():
    for name, entry in JUDGES.items():
        assert entry.role in ROLES, name
        if entry.writes:
            module, _, factory = entry.writes.partition(":")
            written = getattr(importlib.import_module(f"verifiers.judges.written.{module}"), factory)
            assert written.format == entry.format
        else:
            both = entry.format == "reference-lm"  # what it means is a matter of the labels that it was fitted to
            assert entry.role in ({"prm", "value"} if both else {ROLE_OF_FORMAT[entry.format]})
            assert (entry.reference is not None) == (FORMATS[entry.format].read_out.models == 2)
    assert [name for name, entry in JUDGES.items() if entry.verified] == [
        "reference-prm",
        "reference-value",
        "math-shepherd",
    ]


def test_names_that_mean_nothing_are_refused_with_what_was_meant():
    for arguments, said in (
        ({"name": "math-sheperd"}, "did you mean math-shepherd"),
        ({"name": "reference-prm", "role": "judge"}, "role"),
        ({"name": "reference-prm", "backend": "tpu"}, "backend"),
        ({"name": "llm-judge"}, "model="),
        ({"name": "llm-judge", "format": "trl"}, "of its own"),
        ({"name": str(REFERENCE), "format": "qwen_prm"}, "did you mean qwen-prm"),
        ({"name": str(REFERENCE), "format": "eurus-stage2"}, "reference="),
        ({"name": str(REFERENCE), "format": "qwen-prm", "separator": "\n\n"}, "separator"),
        ({"name": str(REFERENCE), "format": "chat-reward", "role": "prm"}, "orm"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_judge(**arguments)
    assert format_by_name("trl", separator="\n\n").template.mark == "\n\n"
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*give a format"):
        open_judge(str(REFERENCE))


def test_a_folder_opens_by_its_judge_json_and_scores_as_the_model_does(tmp_path, reference):
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "judge"
    shutil.copytree(REFERENCE, folder)
    (folder / "judge.json").write_text(json.dumps({"role": "prm", "format": "reference-prm"}))
    solution = Solution(question="47,+38\n", steps=("47+38=85", "#85"))
    judges = {role: open_judge(str(folder), role=role, threads=1) for role in (None, "value")}
    done = asyncio.run(judges[None].score_steps(solution))
    ids, positions, _ = FORMATS["reference-prm"].template.render(reference, solution)
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]
    pair = reference.convert_tokens_to_ids(["<yes>", "<no>"])
    expected = logits[list(positions)][:, pair].softmax(-1)[:, 0].tolist()
    assert done.scores == pytest.approx(expected, abs=1e-5)
    assert asyncio.run(judges["value"].value(solution)).scores == pytest.approx(expected[-1:], abs=1e-5)
    assert (judges[None].info.verified, judges[None].info.name) == (True, str(folder))
    for judge in judges.values():
        asyncio.run(judge.aclose())
    (folder / "judge.json").write_text("{}")
    with pytest.raises(ModelError, match="role"):
        open_judge(str(folder))


def test_a_folder_opens_by_its_architecture(tmp_path, reference):
    import torch
    from transformers import LlamaConfig, LlamaForTokenClassification

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(reference), max_position_embeddings=64, **sizes)
    torch.manual_seed(0)
    model = LlamaForTokenClassification(config).eval()
    for place in (tmp_path / "two", tmp_path / "three"):
        model.save_pretrained(place)
        reference.save_pretrained(place)
    judge = open_judge(str(tmp_path / "two"), separator=",", threads=1)
    assert judge.split("1,2") == ("1", "2")
    ids, positions, _ = format_by_name("trl", separator=",").template.render(
        reference, Solution(question="1", steps=("2", "3"))
    )
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, list(positions)].softmax(-1)[:, 1].tolist()
    done = asyncio.run(judge.score_steps(Solution(question="1", steps=("2", "3"))))
    assert done.scores == pytest.approx(expected, abs=1e-5)
    assert not judge.info.verified  # TRL's rule was checked on another tokenizer
    asyncio.run(judge.aclose())
    with pytest.raises(ModelError, match=r"three.*1 output.*found"):
        open_judge(str(tmp_path / "three"), format="reference-value")


def test_models_prints_judges_and_what_was_not_verified(capsys, monkeypatch):
    from rich.console import Console

    from bethink import tables

    monkeypatch.setattr(tables, "out", Console(width=80))
    tables.print_models()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for name, entry in JUDGES.items():
        assert entry.format in lines[name]
        assert lines[name].split()[-1] == ("verified" if entry.verified else "unverified")
    assert "embedded" in lines["reference-prm"] or "reference-prm" in EMBEDDED


def test_a_likelihood_is_that_of_the_least_expected_token_so_far():
    read_out = LeastLikely(slope=2.0, intercept=1.0)
    logprobs = [-0.1, -3.0, -0.2, -5.0, -0.0]
    expected = [1 / (1 + math.exp(-(2.0 * min(logprobs[: end + 1]) + 1.0))) for end in range(5)]
    assert read_out.scores([[each] for each in logprobs]) == pytest.approx(expected, rel=1e-12)


def test_the_shipped_prm_finds_the_wrong_step():
    """One trained on labels alone had learnt which questions are hard, and gave wrong lines as much as right ones."""
    judge = open_judge("reference-prm", threads=1)
    try:
        right = Solution(question="47,+38,*6\n", steps=("47+38=85", "85*6=510", "#510"))
        wrong = Solution(question="47,+38,*6\n", steps=("47+38=85", "85*6=540", "#540"))
        scores = [asyncio.run(judge.score_steps(solution)).scores for solution in (right, wrong)]
    finally:
        asyncio.run(judge.aclose())
    assert min(scores[0]) > 0.5
    assert [score > 0.5 for score in scores[1]] == [True, False, False]
