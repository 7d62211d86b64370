"""Where weights come from, what pins them, and tokenizers that neither lose nor double a token."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decoding.errors import ConfigError, ModelError
from decoding.models import EMBEDDED, load_tokenizer, model_shape, resolve
from decoding.smollm2 import cache_folder, smollm2_folder

LETTERS = "abcdefghijklmnopqrstuvwxyz ,.?!:\n"
SPECIAL = ["<pad>", "<bos>", "<eos>", "<end>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{{ m['role'] + ':' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def save_model(folder: Path, *, tied: bool = False, shard: str = "1GB") -> int:
    """Save a real, tiny chat model; return its number of parameters."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({t: i for i, t in enumerate([*SPECIAL, *LETTERS])}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    raw.decoder = decoders.Fuse()
    raw.post_processor = processors.TemplateProcessing(single="<bos> $A", pair=None, special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<end>"],
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIAL) + len(LETTERS),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            tie_word_embeddings=tied,
            eos_token_id=2,
        )
    )
    model.generation_config.eos_token_id = [2, 3]
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(resolve(str(folder)))


def test_a_folder_is_pinned_by_its_content_and_not_by_where_it_lies(folder, tmp_path):
    source = resolve(str(folder))
    assert (source.name, source.path, source.trust_remote_code) == (str(folder), str(folder.resolve()), False)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert resolve(str(copy)).revision == source.revision
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # one bit of one weight
    (copy / "model.safetensors").write_bytes(weights)
    assert resolve(str(copy)).revision != source.revision


@pytest.mark.parametrize(("tied", "shard"), [(False, "1GB"), (True, "1GB"), (False, "20KB")])
def test_a_models_shape_is_read_from_headers(tmp_path, tied, shard):
    parameters = save_model(tmp_path / "m", tied=tied, shard=shard)
    assert (len(list((tmp_path / "m").glob("*.safetensors"))) > 1) == (shard == "20KB")
    assert model_shape(resolve(str(tmp_path / "m"))) == (parameters, 77, len(SPECIAL) + len(LETTERS))


def test_finding_a_model_and_its_shape_imports_no_torch(folder):
    code = (
        "import sys; from decoding.models import resolve, model_shape; model_shape(resolve(sys.argv[1]));"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_and_damaged_weights_are_named(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:20])
    with pytest.raises(ModelError, match="not a safetensors file"):
        model_shape(resolve(str(copy)))
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks weights"):
        model_shape(resolve(str(copy)))
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-7.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-7\.safetensors"):
        model_shape(resolve(str(copy)))
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        model_shape(resolve(str(copy)))


def test_what_cannot_be_a_model_is_refused_with_advice(folder, tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        resolve(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))
    with pytest.raises(ModelError, match="is a file"):
        resolve(str(folder / "config.json"))
    with pytest.raises(ModelError, match="leave the revision out"):
        resolve(str(folder), revision="main")
    with pytest.raises(ModelError, match=r"did you mean smollm2-135m-instruct"):
        resolve("smollm-135m-instruct")
    with pytest.raises(ModelError, match=r"give a folder.*did you mean smollm2-135m-instruct"):
        resolve(
            "nobody-at-all-9/SmolLM2-135M-Instruct-nothing"
        )  # fails without a hub and, since it isn't there, with one


def test_every_end_of_sequence_counts_whichever_file_names_it(tokenizer):
    assert tokenizer.eos_token_ids == {2, 3}  # config.json says 2, generation_config.json 2 and 3


def test_a_prompt_opens_once_even_if_its_text_spells_the_opening_out(tokenizer):
    plain = tokenizer.encode("hi")
    assert plain[0] == 1
    assert plain.count(1) == 1
    assert tokenizer.encode("<bos>hi") == plain


def test_reading_leaves_special_tokens_out_and_spaces_alone(tokenizer):
    text = "a , b .  it ' s ?\n"
    letters = text.replace("'", "")
    assert tokenizer.decode([*tokenizer.encode(letters), 3, 2]) == letters


def test_a_chat_is_rendered_to_plain_ids_with_each_special_token_once(tokenizer):
    ids = tokenizer.render_chat([{"role": "user", "content": "hi"}])
    assert all(type(token) is int for token in ids)
    assert ids == tokenizer.encode("user:hi<end>assistant:")
    assert ids.count(1) == 1


def test_a_chat_that_cannot_be_rendered_is_a_setting_that_cannot_work(tokenizer, folder, tmp_path):
    with pytest.raises(ConfigError, match="no system role"):
        tokenizer.render_chat([{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}])
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    bare = load_tokenizer(resolve(str(copy)))
    assert not bare.has_chat_template
    with pytest.raises(ConfigError, match="give the prompt as text"):
        bare.render_chat([{"role": "user", "content": "hi"}])


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BETHINK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "bethink"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "bethink"
    monkeypatch.setenv("BETHINK_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"


def test_a_built_model_is_used_again_and_a_damaged_one_is_not(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("BETHINK_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a rebuild gets as far as pip and fails there
    built = tmp_path / "smollm2-135m-instruct"
    built.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (built / name).write_bytes(b"{}")
    with pytest.raises(ModelError):
        smollm2_folder()  # no checksum: the build never ended
    (built / "model.safetensors.sha256").write_text(hashlib.sha256(b"{}").hexdigest() + "\n")
    assert smollm2_folder() == built
    (built / "model.safetensors").write_bytes(b"{")
    with pytest.raises(ModelError, match=r"pip|needs"):
        smollm2_folder()


def test_embedded_models_say_what_they_are():
    for model in EMBEDDED.values():
        assert model.licence == "Apache-2.0"
        assert all((model.description, model.origin, model.size))


@pytest.mark.engine
def test_smollm2_is_built_from_its_wheel_and_speaks_english():
    import torch
    from transformers import AutoModelForCausalLM

    source = resolve("smollm2-135m-instruct")
    assert model_shape(source) == (134_515_008, 8192, 49152)
    tokenizer = load_tokenizer(source)
    assert tokenizer.decode([1, 2]) == ""  # <|im_start|>, <|im_end|>
    assert tokenizer.eos_token_ids == {2}
    assert len(tokenizer.encode("   12")) == 3  # spaces, one, two: digits are cut off first, as in training
    prompt = tokenizer.render_chat([{"role": "user", "content": "What is the capital of France?"}])
    model = AutoModelForCausalLM.from_pretrained(source.path)
    assert model.dtype == torch.float32
    written = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt) :].tolist()
    assert "Paris" in tokenizer.decode(written)
    assert written[-1] == 2
