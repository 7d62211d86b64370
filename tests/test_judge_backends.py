"""Judges read through engines and servers: the same numbers as plain forwards, whatever is between."""

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aiohttp import web
from safetensors.torch import load_file, save_file
from torch import nn

from decoding.engine import Capability
from decoding.engines.scripted import ScriptedEngine, Table
from decoding.errors import CapabilityError, ConfigError, ContextError, EngineError, ModelError
from decoding.host import Hosted, OpenEngine
from decoding.models import ModelSource, resolve
from tests.engines import REAL, SUBJECTS, server_of
from tests.worlds import RandomModel
from training.policy import tokenizer
from verifiers.judges.reader import Head
from verifiers.judges.types import ScoreKind
from verifiers.models import http_pooling
from verifiers.models.engine_reader import EngineReader, open_engine_reader
from verifiers.models.head_folder import servable
from verifiers.models.http_pooling import open_http_pooling_reader
from verifiers.models.pooling_reader import open_pooling_reader

IDS = (1, 7, 8, 9, 10, 6, 11, 12, 6, 13, 7, 6)
POSITIONS = (5, 8, 11)


@dataclass(frozen=True)
class Reading:
    """A read-out as far as readers look at it."""

    head: Head = Head.TOKENS
    ids: tuple[int, ...] = (4, 5)
    kind: ScoreKind = ScoreKind.PROBABILITY

    def columns(self, _tokenizer):
        return self.ids if self.head is Head.TOKENS else ()

    def scores(self, rows):
        return tuple(row[0] for row in rows)


def read(reader, ids=IDS, positions=POSITIONS):
    return asyncio.run(reader.read(tuple(ids), tuple(positions)))


def close(reader):
    asyncio.run(reader.aclose())


# The engine reader, on a model whose laws are known


SCRIPT = RandomModel()


def scripted(**options):
    async def opening():
        return ScriptedEngine(SCRIPT, **{"context_length": 64, **options})

    return OpenEngine(opening)


def laws(ids, positions, columns):
    return np.log([SCRIPT.law(ids[: position + 1])[list(columns)] for position in positions])


def test_an_engine_is_read_at_the_ends_of_prefixes_from_any_loop():
    wanted = laws(IDS, POSITIONS, (2, 7, 0))
    with scripted() as opened:
        reader = EngineReader(opened, Reading(ids=(2, 7, 0)))
        for _ in range(2):  # a loop of its own each time
            readings = read(reader)
            np.testing.assert_allclose(readings.rows, wanted)
            assert (readings.computed, readings.cached) == (6 + 9 + 12, 0)
        inside = opened.run(lambda engine: EngineReader(engine, Reading(ids=(2, 7, 0))).read(IDS, POSITIONS))
        assert inside == readings
        assert opened.run(lambda _: reader.read(IDS, POSITIONS)) == readings  # from the engine's own loop too
        close(reader)
        assert read(reader) == readings  # the engine is somebody else's and stays open
        assert opened.engine._rows == {}


def test_what_an_engine_can_not_be_asked_for_is_refused_by_name():
    with scripted() as opened:
        reader = EngineReader(opened, Reading())
        assert reader.info.context_length == 63  # one token has to be drawn
        assert len(read(reader, (3,) * 63, (62,)).rows) == 1
        with pytest.raises(ContextError, match="scripted was given 64 tokens and can read 63"):
            read(reader, (3,) * 64, (1, 63))
        for positions in ((), (3, 2), (2, 2), (-1, 2), (5, 12)):
            with pytest.raises(ConfigError, match="ascend from 0 to 11"):
                read(reader, IDS, positions)
        with pytest.raises(ConfigError, match=r"reads tokens.*reads scalar.*pooling"):
            EngineReader(opened, Reading(head=Head.SCALAR))
        info = opened.engine.info
        opened.engine._info = replace(info, capabilities=info.capabilities - {Capability.CHOSEN_LOGPROBS})
        with pytest.raises(CapabilityError, match="needs chosen_logprobs, which this scripted engine"):
            EngineReader(opened, Reading())


def test_a_number_that_is_not_finite_is_an_error_that_says_where():
    law = {(): [0.5, 0.5, 0.0], (1,): [0.2, 0.3, 0.5]}
    table = Table(vocabulary=("<end>", "a", "b"), eos_token_ids=frozenset({0}), laws=law)

    async def opening():
        return ScriptedEngine(table)

    with OpenEngine(opening) as opened:
        reader = EngineReader(opened, Reading(ids=(1, 2)))
        np.testing.assert_allclose(np.exp(read(reader, (2, 1), (1,)).rows), [(0.3, 0.5)])
        with pytest.raises(EngineError, match=r"scripted should give finite numbers and gave .*-inf.* at position 2"):
            read(reader, (2, 1, 2), (1, 2))


def test_a_reading_that_is_cancelled_or_fails_leaves_nothing_in_flight():
    async def cancelled(engine):
        reader = EngineReader(engine, Reading())
        task = asyncio.ensure_future(reader.read(IDS, POSITIONS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(engine._rows) == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine._rows == {}

    async def closed(engine):
        reader = EngineReader(engine, Reading())
        task = asyncio.ensure_future(reader.read(IDS, POSITIONS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await engine.aclose()
        with pytest.raises(EngineError, match="without its numbers"):
            await task

    with scripted() as opened:
        opened.run(cancelled)
        opened.run(closed)


def test_anything_that_closes_can_live_on_a_loop_of_its_own():
    class Counter:
        count = closed = 0

        async def next(self):
            self.count += 1
            return self.count

        async def aclose(self):
            self.closed += 1

    async def opening():
        return Counter()

    with Hosted(opening) as hosted:
        assert hosted.run(lambda counter: counter.next()) == 1
        assert asyncio.run(hosted.arun(lambda counter: counter.next())) == 2
    hosted.close()
    assert hosted.held.closed == 1


# Folders that vLLM can load


BODY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def checkpoint(folder, kind, head, *, causal=False, files=1, **config):
    """A random model, `kind` a class of transformers, and its head's tensors under the names of `head`.

    Returns a plain forward: ids to what the head says at each of them.
    """
    import transformers

    torch.manual_seed(0)
    settings = getattr(transformers, f"{kind}Config")(**BODY, vocab_size=len(tokenizer()), **config)
    body = getattr(transformers, f"{kind}{'ForCausalLM' if causal else 'Model'}")(settings).eval()
    for parameter in body.parameters():
        if parameter.dim() == 2:
            parameter.data *= 5
    prefix = "" if causal else "model."
    tensors = {prefix + name: tensor.contiguous() for name, tensor in body.state_dict().items()} | head
    folder.mkdir(exist_ok=True)
    settings.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    names = sorted(tensors)
    if files == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        shards = {
            name: f"model-{1 + i * files // len(names):05d}-of-{files:05d}.safetensors" for i, name in enumerate(names)
        }
        for shard in set(shards.values()):
            save_file({name: tensors[name] for name in names if shards[name] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    inner = body.model if causal else body

    def forward(ids):
        with torch.inference_mode():
            hidden = inner(torch.tensor([ids])).last_hidden_state[0]
            return apply(head, hidden).numpy()

    return forward


def apply(head, hidden):
    """A head of one or two layers, by its tensors."""
    for i, name in enumerate(sorted(name for name in head if name.endswith("weight"))):
        hidden = nn.functional.linear(
            torch.relu(hidden) if i else hidden, head[name], head.get(name.replace("weight", "bias"))
        )
    return hidden


def linear(name, outputs, bias=True, inputs=64):
    torch.manual_seed(1)
    tensors = {f"{name}.weight": torch.randn(outputs, inputs) / 8}
    return tensors | ({f"{name}.bias": torch.randn(outputs)} if bias else {})


def two_layers(outputs):
    return linear("score.0", 64) | linear("score.2", outputs)


def skywork(folder, files=1):
    """Laid out as Skywork-o1-Open-PRM: a language model with TRL's value head beside its own."""
    return checkpoint(
        folder, "Qwen2", linear("v_head.summary", 1), causal=True, files=files, architectures=["Qwen2ForPrmModel"]
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BETHINK_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("files", [1, 3])
def test_a_head_of_another_name_is_renamed_in_a_copy_of_its_file_alone(tmp_path, files):
    skywork(tmp_path / "sky", files)
    source = resolve(str(tmp_path / "sky"))
    served, overrides = servable(source, Head.SCALAR)
    assert overrides == {"architectures": ["Qwen2ForSequenceClassification"], "num_labels": 1}

    def tensors(folder):
        return {name: x for path in folder.glob("*.safetensors") for name, x in load_file(path).items()}

    new, old = tensors(tmp_path / "cache" / "heads" / served.path.rsplit("/", 1)[1]), tensors(tmp_path / "sky")
    renamed = {name.replace("v_head.summary", "score"): x for name, x in old.items()}
    assert new.keys() == renamed.keys()
    assert all(torch.equal(new[name], renamed[name]) for name in new)
    folder = Path(served.path)
    copies = [path.name for path in folder.glob("*.safetensors") if not path.is_symlink()]
    assert len(copies) == 1
    if files > 1:
        weights = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        assert weights["score.weight"] == copies[0]
        assert set(weights) == set(new)
    before = (folder / copies[0]).stat().st_mtime_ns
    assert servable(source, Head.SCALAR).source.path == served.path
    assert (folder / copies[0]).stat().st_mtime_ns == before  # made once
    (tmp_path / "sky" / "tokenizer.json").rename(tmp_path / "sky" / "gone")
    servable(source, Head.SCALAR)
    assert all(path.exists() for path in folder.iterdir())  # made again where a link's target has gone


@pytest.mark.parametrize(
    ("kind", "head", "reads", "words"),
    [
        ("Llama", {}, Head.CLASSES, "expected one head named score.*found none"),
        ("Llama", linear("score", 1), Head.CLASSES, "expected a head with 2 outputs or more, found 1"),
        ("Llama", linear("score", 2), Head.SCALAR, "expected a head with 1 output, found 2"),
        ("Llama", linear("score", 2) | linear("v_head", 1), Head.SCALAR, "found score, v_head"),
        ("Llama", two_layers(2), Head.CLASSES, "llama body.*qwen2 bodies only"),
        ("Qwen2", two_layers(3), Head.CLASSES, "3 outputs.*1 or 2 outputs"),
        ("Qwen2", linear("score.0", 64, bias=False) | linear("score.2", 2), Head.CLASSES, "with biases"),
        ("ViT", linear("score", 1), Head.SCALAR, "no decoder"),
    ],
)
def test_heads_that_vllm_does_not_have_are_refused_with_what_was_found(tmp_path, kind, head, reads, words):
    if kind == "ViT":
        checkpoint(tmp_path / "m", "Llama", head)
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    else:
        checkpoint(tmp_path / "m", kind, head)
    with pytest.raises(ModelError, match=words) as error:
        servable(resolve(str(tmp_path / "m")), reads)
    assert str(tmp_path / "m") in str(error.value)


# A server that pools, and fails


STEP = 6


class FakePooling:
    """A server whose numbers are the ids' own: at each token, or at step tokens alone."""

    def __init__(self, *, step=None, columns=2, flat=False, card=None):
        self.step, self.columns, self.flat = step, columns, flat
        self.card = {"id": "judge", "max_model_len": 64} if card is None else card
        self.faults, self.bodies = [], []

    async def models(self, _):
        return web.json_response({"data": [self.card]})

    async def pooling(self, request):
        body = await request.json()
        self.bodies.append(body)
        if self.faults:
            return self.faults.pop(0)
        ids = [token for token in body["input"] if self.step is None or token == self.step]
        rows = [[token + 100.0 * c for c in range(self.columns)] for token in ids]
        data = [row[0] for row in rows] if self.flat else rows
        return web.json_response({"data": [{"index": 0, "data": data}]})


@contextmanager
def serving(*fakes):
    """Fakes on ports of their own, in a thread; their addresses."""

    class Site:
        async def start(self):
            self.runners, urls = [], []
            for fake in fakes:
                app = web.Application()
                app.router.add_get("/v1/models", fake.models)
                app.router.add_post("/pooling", fake.pooling)
                self.runners.append(web.AppRunner(app))
                await self.runners[-1].setup()
                await web.TCPSite(self.runners[-1], "127.0.0.1", 0).start()
                urls.append(f"http://127.0.0.1:{self.runners[-1].addresses[0][1]}/v1")
            self.urls = urls
            return self

        async def aclose(self):
            for runner in self.runners:
                await runner.cleanup()

    with Hosted(lambda: Site().start()) as site:
        yield site.held.urls


@contextmanager
def at_server(fake, head=Head.CLASSES, **options):
    with serving(fake) as urls:
        source = ModelSource(name="auto", path="", revision=None)
        reader = open_http_pooling_reader(
            source, Reading(head=head), base_url=urls, tokenizer="reference-base", **options
        )
        fake.bodies.clear()
        try:
            yield reader
        finally:
            close(reader)


@pytest.mark.parametrize("fake", [FakePooling(), FakePooling(step=STEP)])
def test_a_server_is_read_by_position_also_where_it_pools_steps_alone(fake):
    with at_server(fake) as reader:
        readings = read(reader, (*IDS, 9, 9))
        assert readings.rows == ((6.0, 106.0),) * 3
        assert (readings.computed, readings.cached) == (12, 0)  # ids after the last position are not computed
        (body,) = fake.bodies
        assert (body["input"], body["task"], body["use_activation"]) == (list(IDS), "token_classify", False)
        assert read(reader, IDS, (8,)).rows == ((6.0, 106.0),)
        assert reader.info.context_length == 64
        with pytest.raises(ContextError, match="judge was given 65 tokens and can read 64"):
            read(reader, (6,) * 65, (64,))


def test_one_column_may_come_without_brackets():
    with at_server(FakePooling(columns=1, flat=True), Head.SCALAR) as reader:
        assert read(reader).rows == ((6.0,),) * 3


def test_a_server_that_pools_otherwise_is_told_how_to_be_started():
    fake = FakePooling()
    with at_server(fake) as reader:
        fake.step = 7  # its rows are those of another token
        with pytest.raises(EngineError, match=r"judge gave 2 rows of numbers for 12 tokens.*tok_pooling_type"):
            read(reader)


def test_a_head_of_another_shape_at_a_server_is_told_when_opening():
    with (
        pytest.raises(ModelError, match="judge: expected a head with 1 output, found 2"),
        at_server(FakePooling(), Head.SCALAR),
    ):
        pass


def test_a_server_that_does_not_say_its_context_has_to_be_told():
    fake = FakePooling(card={"id": "judge"})
    with pytest.raises(ConfigError, match=r"judge does not say.*context_length"), at_server(fake):
        pass
    with at_server(fake, context_length=12) as reader:
        assert read(reader).rows == ((6.0, 106.0),) * 3


def test_faults_that_pass_cost_another_try_and_others_are_told(monkeypatch):
    monkeypatch.setattr(http_pooling, "FIRST_PAUSE", 0.01)
    fake = FakePooling()
    with at_server(fake) as reader:
        fake.faults = [web.Response(status=500), web.json_response({"data": []})]
        assert read(reader).rows == ((6.0, 106.0),) * 3
        assert len(fake.bodies) == 3
        fake.faults = [web.json_response({"error": {"message": "no such task"}}, status=400)]
        with pytest.raises(ConfigError, match="no such task"):
            read(reader)


# The real ones


PAIR = Reading(ids=(4, 5))  # <yes>, <no>
SOLUTION = "3+4-2=\n3+4=7\n7-2=5\n#5\n"


def rows_of():
    """A few solutions of the reference world, as ids with the positions of their newlines."""
    encode = tokenizer().encode
    texts = [SOLUTION, "9*2+1=\n9*2=18\n18+1=19\n#19\n", "1+1=\n1+1=3\n#3\n"]
    rows = [tuple(encode(text)) for text in texts]
    newline = encode("\n")[-1]
    return [(ids, tuple(i for i, token in enumerate(ids) if token == newline)) for ids in rows]


def plain_pairs(subject):
    """What a plain forward says of the pair."""
    return [subject.logprobs(ids[:1], (*ids[1:], 0))[list(at)][:, list(PAIR.ids)] for ids, at in rows_of()]


def check_same(reader, wanted, rows=None):
    async def work():
        return await asyncio.gather(*(reader.read(ids, positions) for ids, positions in rows or rows_of()))

    for readings, expected in zip(asyncio.run(work()), wanted, strict=True):
        np.testing.assert_allclose(readings.rows, expected, atol=1e-3)


@pytest.mark.parametrize("subject", ["transformers", *REAL], indirect=True)
def test_a_pair_of_tokens_is_the_same_through_every_engine(opened, subject):
    reader = EngineReader(opened, PAIR)
    check_same(reader, plain_pairs(subject))
    if subject.name == "vllm":  # blocks of 32 tokens are kept
        ids = rows_of()[0][0] * 3
        first, second = (read(reader, ids, (len(ids) - 2, len(ids) - 1)) for _ in range(2))
        assert second.rows == first.rows
        assert first.cached >= 32
        assert second.cached == 2 * (len(ids) - 1) // 64 * 64
        assert all(one.computed + one.cached == 2 * len(ids) - 1 for one in (first, second))


@pytest.mark.parametrize("engine", ["transformers", REAL[1]])
def test_an_engine_is_opened_to_be_read_and_closed_with_its_reader(policy_folder, engine):
    subject, folder = SUBJECTS[engine](policy_folder), str(policy_folder)
    if engine == "openai":
        source = ModelSource(name="auto", path="", revision=None)
        options = {"base_url": server_of(policy_folder), "tokenizer": folder}
    else:
        source, options = resolve(folder), {"slots": 8}
    before = set(threading.enumerate())
    reader = open_engine_reader(source, PAIR, engine=engine, **options)
    assert set(threading.enumerate()) > before
    check_same(reader, plain_pairs(subject))
    close(reader)
    assert set(threading.enumerate()) <= before


HEADS = {
    "two classes": (
        Head.CLASSES,
        lambda folder: checkpoint(folder, "Llama", linear("score", 2), architectures=["LlamaForTokenClassification"]),
    ),
    "one number": (Head.SCALAR, lambda folder: checkpoint(folder, "Qwen2", linear("score", 1, bias=False))),
    "two layers": (
        Head.CLASSES,
        lambda folder: checkpoint(folder, "Qwen2", two_layers(2), architectures=["Qwen2ForProcessRewardModel"]),
    ),
    "skywork": (Head.SCALAR, skywork),
}


@pytest.mark.engine
@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_the_same_through_vllm(tmp_path, name):
    head, make = HEADS[name]
    forward = make(tmp_path / "judge")
    wanted = [forward(ids)[list(positions)] for ids, positions in rows_of()]
    assert np.std([row for rows in wanted for row in rows]) > 0.1
    source = resolve(str(tmp_path / "judge"))
    reader = open_pooling_reader(source, Reading(head=head))
    check_same(reader, wanted)
    assert (reader.info.context_length, reader.info.model) == (256, source.name)
    readings = read(reader)
    assert (readings.computed, readings.cached) == (12, 0)
    with pytest.raises(ContextError, match="256"):
        read(reader, (3,) * 257, (256,))
    close(reader)


@pytest.mark.engine
@pytest.mark.parametrize(("name", "pooling"), [("two classes", "ALL"), ("two layers", "STEP")])
def test_a_head_is_the_same_at_a_server(tmp_path, name, pooling):
    from benchmarks.openai_tokens import serve

    head, make = HEADS[name]
    forward = make(tmp_path / "judge")
    wanted = [forward(ids)[list(positions)] for ids, positions in rows_of()]
    step = tokenizer().encode("\n")[-1]
    config = json.dumps({"tok_pooling_type": pooling, **({"step_tag_id": step} if pooling == "STEP" else {})})
    with serve(resolve(str(tmp_path / "judge")), runner="pooling", pooler_config=config) as url:
        source = ModelSource(name="auto", path="", revision=None)
        reader = open_http_pooling_reader(source, Reading(head=head), base_url=url, tokenizer=str(tmp_path / "judge"))
        check_same(reader, wanted)
        close(reader)


@pytest.mark.engine
def test_what_vllm_can_not_load_is_refused(tmp_path):
    checkpoint(tmp_path / "m", "Llama", linear("score", 2))
    with pytest.raises(ConfigError, match=r"no engine option.*slots"):
        open_pooling_reader(resolve(str(tmp_path / "m")), Reading(head=Head.CLASSES), slots=3)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "num_attention_heads": 3}))
    with pytest.raises(ModelError, match="vLLM could not start"):
        open_pooling_reader(resolve(str(tmp_path / "m")), Reading(head=Head.CLASSES))
