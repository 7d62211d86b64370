"""Which open nodes say the same: clusters of texts, for searches that keep what is different.

``text``: equal texts. ``embedding``: as ETS (arXiv 2502.13575, released code), sentence embeddings, average linkage by
the cosine distance, cut at 0.05. Which nodes are together does not depend on their order; clusters are numbered in the
order of their first members.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from decoding.errors import ConfigError
from reasoning.search.tree import Node

CLUSTERINGS = ("text", "embedding", "none")
_CUT = 0.05  # cosine distance


def check_clustering(how: str) -> None:
    """Raises ``ConfigError`` for a clustering that there is not."""
    if how not in CLUSTERINGS:
        raise ConfigError(f"unknown clusters {how!r}: there are {', '.join(CLUSTERINGS)}")


def last_step(node: Node) -> str:
    """What a node's last step says, without white space around it."""
    before = "" if node.parent is None else node.parent.candidate.text
    return node.candidate.text[len(before) :].strip()


def by_equality(labels: Sequence[Hashable]) -> list[int]:
    """Clusters of equals, [N]."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def by_likeness(rows: npt.NDArray[np.float32]) -> list[int]:
    """Clusters of rows, [N, D], none of them zero, that point in nearly the same direction, [N]."""
    from scipy.cluster.hierarchy import fcluster, linkage  # takes half a second, and few who import this come here
    from scipy.spatial.distance import pdist

    if len(rows) < 2:
        return [0] * len(rows)
    order = np.lexsort(rows.T)  # sums of distances are rounded, so they are made in an order of their own
    # Rounding can make the distance of equal rows negative.
    distances = np.maximum(pdist(rows[order].astype(np.float64), metric="cosine"), 0.0)
    sorted_labels = fcluster(linkage(distances, method="average"), t=_CUT, criterion="distance")
    labels = np.empty(len(rows), dtype=np.int64)
    labels[order] = sorted_labels
    return by_equality(labels.tolist())
