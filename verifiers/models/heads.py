"""The bodies of judges and what is read at their last hidden states.

Reward models bring small heads under many names, and mostly as code of their own. The tensors say enough, so heads are
read from the checkpoint by name and no stranger's code runs:

    score, classifier    transformers' sequence and token classification (TRL's PRMTrainer, Skywork-Reward, Qwen2.5-Math
                         reward models, whose head is ``score.0``, ReLU, ``score.2``)
    v_head.summary       TRL's value head (Skywork-o1-Open-PRM, AlphaMath; a tanh behind it is the format's)
    v_head, value_head, reward_head, regression_head    one linear layer
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from decoding.errors import ConfigError, ModelError
from decoding.models import ModelSource, weight_files
from verifiers.judges.reader import Head

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LINEAR = ("score", "classifier", "v_head.summary", "v_head", "value_head", "reward_head", "regression_head")
BESIDE = ("value_head.safetensors", "value_head.bin", "value_head.pth")  # where trainers put a head of its own file
_LM_HEADS = ("lm_head.", "embed_out.")


class Loaded(NamedTuple):
    """A model that can be read."""

    body: Any  # ids to hidden states
    head: Any  # hidden states, [P, hidden size], to numbers, [P, columns]
    config: Any
    parameters: int


def load_model(source: ModelSource, head: Head, *, dtype: str, device: str | None) -> Loaded:
    """Load body and head onto a device, in eval mode; blocks.

    Raises:
        ConfigError: There is no such dtype or device.
        ModelError: The model can't be loaded, lacks weights, or its head is another than `head`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: there are {', '.join(DTYPES)}")
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}: give one as torch names it, such as cpu or cuda:0") from error
    loading = _load_causal if head in (Head.TOKENS, Head.TEXT) else _load_headed
    loaded = loading(source, head, DTYPES[dtype])
    return loaded._replace(body=loaded.body.to(place).eval(), head=loaded.head.to(place).eval())


def _load_causal(source: ModelSource, head: Head, dtype: torch.dtype) -> Loaded:
    """A language model and its own head."""
    from transformers import AutoModelForCausalLM

    model, _ = _from_pretrained(AutoModelForCausalLM, source, dtype)
    body, output = model.base_model, model.get_output_embeddings()
    if body is model or output is None:
        raise ModelError(f"{source.name} has no language model head: {head} judges need one")
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        apart = (model(ids).logits - output(body(ids).last_hidden_state)).float().abs().max().item()
    if apart > 1e-2:  # what is no number is told by who reads it
        raise ModelError(
            f"{source.name} puts something between its body and its head (logits differ by {apart:.3g}): "
            "the transformers backend can't read it, take the engine backend"
        )
    return Loaded(body, output, model.config, int(model.num_parameters()))


def _load_headed(source: ModelSource, head: Head, dtype: torch.dtype) -> Loaded:
    """A body and a small head in float32, found by the names of its tensors."""
    from transformers import AutoModel

    body, left = _from_pretrained(AutoModel, source, dtype)
    tensors = _head_tensors(source)
    strange = sorted(name for name in left - set(tensors) if not name.startswith(_LM_HEADS))
    if strange:
        raise ModelError(f"{source.name} has weights that neither body nor head know: {_some(strange)}")
    module = build_head(source.name, head, tensors, int(body.config.get_text_config(decoder=True).hidden_size))
    parameters = int(body.num_parameters()) + sum(entry.numel() for entry in module.parameters())
    return Loaded(body, module, body.config, parameters)


def build_head(name: str, head: Head, tensors: dict[str, torch.Tensor], hidden_size: int) -> nn.Module:
    """The head whose tensors these are, one layer or two with ReLU between, in float32.

    Raises ``ModelError`` that names model, expectation and finding.
    """
    found = ", ".join(f"{key} {list(tensor.shape)}" for key, tensor in sorted(tensors.items())) or "no head"
    wanted = "1 output" if head is Head.SCALAR else "2 outputs or more"
    expected = f"{name}: expected a head from {hidden_size} numbers to {wanted}, found {found}"
    prefixes = [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]
    two = sorted(prefixes) == ["score.0", "score.2"]
    if not two and len(prefixes) != 1:
        raise ModelError(f"{expected}. Known are score.0 with score.2, and one of {', '.join(LINEAR)}")
    layers = [_linear(expected, tensors, prefix) for prefix in sorted(prefixes)]
    sizes = [hidden_size, *(layer.out_features for layer in layers)]
    outputs = sizes[-1]
    if sizes[:-1] != [layer.in_features for layer in layers] or (outputs == 1) != (head is Head.SCALAR):
        raise ModelError(expected)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1]) if two else layers[0]


def _linear(expected: str, tensors: dict[str, torch.Tensor], prefix: str) -> nn.Linear:
    weight, bias = tensors[f"{prefix}.weight"].float(), tensors.get(f"{prefix}.bias")
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise ModelError(expected)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias.float()})
    return layer.requires_grad_(False)


def _head_tensors(source: ModelSource) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoint whose names are those of heads."""
    from safetensors import SafetensorError, safe_open

    folder = Path(source.path)
    extra = [folder / name for name in BESIDE if (folder / name).is_file()]
    tensors: dict[str, torch.Tensor] = {}
    try:
        for path in dict.fromkeys([*weight_files(folder), *extra]):
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    tensors |= {name: file.get_tensor(name) for name in _heads(file.keys())}
            else:
                stored = torch.load(path, map_location="cpu", weights_only=True)
                tensors |= {name: stored[name] for name in _heads(stored)}
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"the head of {source.name} can't be read: {error}") from error
    return tensors


def _heads(names: Iterable[str]) -> list[str]:
    prefixes = tuple(f"{prefix}." for prefix in LINEAR)
    return [name for name in names if name.startswith(prefixes)]


def _from_pretrained(auto: Any, source: ModelSource, dtype: torch.dtype) -> tuple[Any, set[str]]:
    """A model and the names of stored tensors that it does not take; ``ModelError`` if it lacks any."""
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for weights that load in a second hides what matters
    report = logging.getLogger("transformers")  # tensors that the body leaves are looked at below
    level = report.level
    report.setLevel(logging.ERROR)
    try:
        # Reward models bring code for their head alone: the body is the library's wherever it knows the type.
        config = AutoConfig.from_pretrained(source.path, trust_remote_code=source.trust_remote_code)
        trust = source.trust_remote_code and config.model_type not in CONFIG_MAPPING
        model, loading = auto.from_pretrained(
            source.path, dtype=dtype, trust_remote_code=trust, output_loading_info=True
        )
    except Exception as error:  # files, formats, memory and drivers share no root
        raise ModelError(f"{source.name} can't be loaded: {type(error).__name__}: {error}") from error
    finally:
        report.setLevel(level)
    if missing := loading["missing_keys"]:
        raise ModelError(f"{source.name} lacks weights that {type(model).__name__} has: {_some(sorted(missing))}")
    return model, set(loading["unexpected_keys"])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
