"""The models that are trained: a body of any language model, and one number read at a position.

A process reward is the language model's own head: the difference of two tokens' logits. A value is a head with one
output. Both give the logit of a probability, so one loss fits both.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from decoding.errors import ConfigError, ModelError
from decoding.models import resolve

GOOD, BAD, QUERY = "<yes>", "<no>", "<mask>"
TRAINED = ("all", "top", "head", "lora", "likelihood")


class PairModel(nn.Module):
    """A causal language model: the logit of one token against another as the next one."""

    def __init__(self, model: Any, good: int, bad: int) -> None:
        super().__init__()
        self.model, self.good, self.bad = model, good, bad

    def features(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states, [B, T, hidden size]."""
        hidden: torch.Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of hidden states, [N, hidden size], to [N]."""
        rows: torch.Tensor = self.model.get_output_embeddings().weight
        logits: torch.Tensor = hidden @ (rows[self.good] - rows[self.bad])
        return logits

    def head(self) -> list[nn.Parameter]:
        """What is trained where the body is frozen: the output embeddings."""
        return list(self.model.get_output_embeddings().parameters())


class ScalarModel(nn.Module):
    """A token-classification model with one output, in transformers' layout."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def features(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states, [B, T, hidden size]."""
        hidden: torch.Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of hidden states, [N, hidden size], to [N]."""
        logits: torch.Tensor = self.model.score(hidden)
        return logits.squeeze(-1)

    def head(self) -> list[nn.Parameter]:
        """What is trained where the body is frozen."""
        return list(self.model.score.parameters())


JudgeModel = PairModel | ScalarModel


def build(role: str, start: str, *, fresh: bool, seed: int, layers: int = 0) -> tuple[JudgeModel, Any]:
    """A model to train and its tokenizer.

    Args:
        role: ``value`` has a head of its own, the others use the language model's.
        start: Whose weights it begins with, as `decoding.models.resolve` finds it.
        fresh: Take its shape alone and draw the weights.
        seed: Of weights that are drawn.
        layers: More of them on top, which begin as the identity (Wu et al. 2024, *LLaMA Pro*, arXiv 2401.02415).
            What a policy expects of a token is known behind its last layer alone, and to find the token
            that was not expected takes attention to that.

    Raises:
        ModelError: It can't be loaded, or its tokenizer lacks the tokens of the answer.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = resolve(start)
    torch.manual_seed(seed)
    auto: Any = AutoModelForTokenClassification if role == "value" else AutoModelForCausalLM
    options = {"num_labels": 1} if role == "value" else {}
    if layers:
        options["num_hidden_layers"] = AutoConfig.from_pretrained(source.path).num_hidden_layers + layers
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path)
        if fresh:
            model = auto.from_config(AutoConfig.from_pretrained(source.path, **options))
        else:
            model = _quietly(auto.from_pretrained, source.path, dtype=torch.float32, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{start} can't be trained as a judge: {error}") from error
    for block in model.base_model.layers[-layers:] if layers else ():
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
    if role == "value":
        if not hasattr(model, "score"):
            raise ModelError(f"{start}: {type(model).__name__} has no head named score, and judges are read there")
        return ScalarModel(model), tokenizer
    return PairModel(model, token(tokenizer, GOOD), token(tokenizer, BAD)), tokenizer


def token(tokenizer: Any, text: str) -> int:
    """The id of a token; ``ModelError`` where the tokenizer has no such one."""
    found = tokenizer.convert_tokens_to_ids(text)
    if found is None or found == tokenizer.unk_token_id:
        raise ModelError(f"the tokenizer of {tokenizer.name_or_path} has no token {text!r}, which the judge answers by")
    return int(found)


def make_trainable(model: JudgeModel, trained: str, rank: int, seed: int, layers: int = 0) -> list[nn.Parameter]:
    """Freeze what is not trained; the parameters that are.

    ``top`` is the last `layers` layers and the head; ``lora`` puts adapters (PEFT) on all linear layers.
    """
    if trained not in TRAINED:
        raise ConfigError(f"trained must be one of {', '.join(TRAINED)}, got {trained!r}")
    if trained == "all":
        return list(model.parameters())
    model.requires_grad_(False)
    if trained == "lora":
        _add_adapters(model, rank, seed)
    if trained == "top":
        model.model.base_model.layers[len(model.model.base_model.layers) - layers :].requires_grad_(True)
        model.model.base_model.norm.requires_grad_(True)
    for parameter in model.head():
        parameter.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_model(model: JudgeModel, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary model folder; adapters are merged into the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in model.modules():
        merge: Any = getattr(module, "merge", None)
        if merge is not None and hasattr(module, "get_base_layer"):
            merge()
    _plain(model.model)
    model.model.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _add_adapters(model: JudgeModel, rank: int, seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("training with LoRA needs the package peft: pip install peft") from error
    torch.manual_seed(seed)
    names = {name.rpartition(".")[2] for name, m in model.model.base_model.named_modules() if isinstance(m, nn.Linear)}
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=sorted(names))
    inject_adapter_in_model(config, model.model.base_model)


def _plain(model: nn.Module) -> None:
    """Put the merged linear layers back in the places of their adapters."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            inner: Any = getattr(child, "get_base_layer", None)
            if inner is not None:
                setattr(module, name, inner())


def _quietly(load: Any, *args: Any, **options: Any) -> Any:
    """Load without the notice that the head is new: it is meant to be."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return load(*args, **options)
    finally:
        logging.set_verbosity(level)
