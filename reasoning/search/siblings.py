"""Steps of one parent that read alike: the policy often writes the same one several times."""

from collections.abc import Sequence

from decoding.errors import ConfigError
from reasoning.search.tree import Node

UNIQUE = ("steps", "none")
"""``steps``: of one prefix's next steps that read the same, only the first counts; ``none``: each counts."""


def check_unique(how: str) -> None:
    """Raises ``ConfigError`` for a way to tell steps apart that there is not."""
    if how not in UNIQUE:
        raise ConfigError(f"unique must be one of {', '.join(UNIQUE)}, got {how!r}")


def unique_siblings(nodes: Sequence[Node], how: str) -> list[Node]:
    """The nodes that count, in their order; white space around a text, and other tokens for it, make no difference.

    A step that ended its solution and one that goes on are two, whatever they read like.
    """
    if how == "none":
        return list(nodes)
    first: dict[tuple[Node | None, str, bool], Node] = {}
    for node in nodes:
        first.setdefault((node.parent, node.candidate.text.strip(), node.finished), node)
    return list(first.values())
