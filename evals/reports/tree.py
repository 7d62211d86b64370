"""A search's tree from its stored trace, as a structure, as text and as DOT."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from decoding.errors import DataError
from decoding.types import FinishReason

EventRow = Mapping[str, Any]  # an event as `reasoning.trace.to_json` writes it


class Fate(StrEnum):
    """What a search decided about a node."""

    KEPT = "kept"  # it went on, or was to
    GIVEN_UP = "given up"
    LEFT = "left"  # nothing was decided: it is finished, equal to another, a look ahead, or the search ended


@dataclass(slots=True, kw_only=True)
class TreeNode:
    """A node as it is drawn."""

    id: int
    parent: int | None
    depth: int
    text: str = ""  # of its step
    tokens: int = 0  # drawn
    score: float | None = None
    finished: bool = False
    cut: bool = False  # by the budget, in the middle of the step
    fate: Fate = Fate.LEFT
    copies: int = 0  # how often it was to go on when it was last kept
    chosen: bool = False  # it or a node behind it gave the answer
    children: list[int] = field(default_factory=list)

    @property
    def stayed(self) -> bool:
        """Whether it did not go on and is no solution that could be chosen: given up, equal to another, cut."""
        return self.fate is Fate.GIVEN_UP or (self.fate is Fate.LEFT and not self.finished)


Tree = Mapping[int, TreeNode]
"""Nodes by id, parents before their children; the root, where nothing is written yet, is 0."""


def tree_of(events: Iterable[EventRow], chosen: int | None = None) -> Tree:
    """The tree that a trace tells of.

    Args:
        events: The trace of one strategy on one problem.
        chosen: The slot of the candidate that was chosen; its path is marked where the trace says which node it was.

    Raises ``DataError`` if the trace has no tree, or one that can't be.
    """
    nodes = {0: TreeNode(id=0, parent=None, depth=0, fate=Fate.KEPT)}
    candidates: Sequence[int] = ()
    for event in events:
        match event["event"]:
            case "Grown":
                _add(nodes, event)
            case "Selected":
                _decide(nodes, event)
            case "Concluded":
                candidates = event["nodes"]
    if len(nodes) == 1:
        raise DataError("the trace has no steps: only strategies that search by steps leave a tree")
    for node in nodes.values():
        if node.fate is Fate.LEFT and node.children:
            node.fate = Fate.KEPT
    for number in candidates:
        nodes[number].fate = Fate.KEPT  # nothing goes on from it, and it was not given up either
    at = candidates[chosen] if chosen is not None and chosen < len(candidates) else None
    while at is not None:
        nodes[at].chosen, at = True, nodes[at].parent
    return nodes


def has_tree(events: Iterable[EventRow]) -> bool:
    """Whether a trace has steps."""
    return any(event["event"] == "Grown" for event in events)


def to_text(tree: Tree, width: int = 100) -> str:
    """The tree for a terminal, a line a node. An only child stands below its parent without a branch of its own."""
    lines = [_legend(tree)]
    stack = [(0, "", "")]
    while stack:
        number, first, rest = stack.pop()
        lines.append(_cut(first + _told(tree[number]), width))
        children = tree[number].children
        if len(children) == 1:
            stack.append((children[0], rest, rest))
            continue
        for child in reversed(children):
            last = child == children[-1]
            stack.append((child, rest + ("└─" if last else "├─"), rest + ("  " if last else "│ ")))
    return "\n".join(lines) + "\n"


def to_dot(tree: Tree) -> str:
    """The tree for Graphviz."""
    lines = ["digraph search {", '  rankdir=LR; node [fontname="monospace", fontsize=9];']
    for node in tree.values():
        shape = "box" if node.finished else "ellipse"
        style = "dashed" if node.stayed else "solid"
        label = _quoted(" ".join(filter(None, (spell_score(node), one_line(node.text, 60) or "prompt"))))
        width = 2.5 if node.chosen else 1
        lines.append(f"  n{node.id} [label={label}, shape={shape}, style={style}, penwidth={width}];")
        if node.parent is not None:
            lines.append(f"  n{node.parent} -> n{node.id} [style={style}, penwidth={width}];")
    return "\n".join([*lines, "}"]) + "\n"


def rows_of(tree: Tree) -> dict[int, int]:
    """A row for each node, for drawing: a leaf has one of its own, a node that of its first child.

    Smaller branches come first, so that no line runs far down past a large one.
    """
    size = dict.fromkeys(tree, 1)
    for node in sorted(tree.values(), key=lambda node: -node.depth):
        if node.parent is not None:
            size[node.parent] += size[node.id]
    rows: dict[int, int] = {}
    stack, leaves = [0], 0
    while stack:
        node = tree[stack.pop()]
        rows[node.id] = leaves
        leaves += not node.children
        stack += sorted(node.children, key=lambda child: (size[child], child), reverse=True)
    return rows


def spell_score(node: TreeNode) -> str:
    """The score with two decimals; empty where there is none."""
    return "" if node.score is None else f"{node.score:.2f}"


def one_line(text: str, most: int) -> str:
    """A text in one line of at most so many characters."""
    return _cut(" ".join(text.split()), most)


def _add(nodes: dict[int, TreeNode], event: EventRow) -> None:
    number, parent = event["node"], event["parent"]
    if number in nodes or parent not in nodes:
        raise DataError(f"the trace is damaged: node {number} behind {parent} comes twice or before its parent")
    nodes[parent].children.append(number)
    nodes[number] = TreeNode(
        id=number,
        parent=parent,
        depth=nodes[parent].depth + 1,
        text=event["text"],
        tokens=event["tokens"],
        score=event["score"],
        finished=event["finished"],
        cut=event["finish_reason"] == FinishReason.BUDGET,
    )


def _decide(nodes: dict[int, TreeNode], event: EventRow) -> None:
    kept = {int(node): count for node, count in event["kept"].items()}  # JSON has keys of text
    for number in event["among"]:
        nodes[number].copies = kept.get(number, 0)
        nodes[number].fate = Fate.KEPT if number in kept else Fate.GIVEN_UP


def _told(node: TreeNode) -> str:
    if node.parent is None:
        return "prompt"
    mark = ("□" if node.stayed else "■") if node.finished else "○" if node.stayed else "●"
    notes = [f"×{node.copies}" if node.copies > 1 else "", "cut" if node.cut else ""]
    parts = (mark, str(node.id), spell_score(node), *notes, "<<" if node.chosen else "", one_line(node.text, 200))
    return " ".join(filter(None, parts))


def _legend(tree: Tree) -> str:
    finished = sum(node.finished for node in tree.values())
    stayed = sum(node.stayed for node in tree.values())
    tokens = sum(node.tokens for node in tree.values())
    chosen = ", << on the way to the answer" if any(node.chosen for node in tree.values()) else ""
    return (
        f"{len(tree) - 1} steps, {tokens} tokens; ○ did not go on ({stayed}), ■ □ finished ({finished}), "
        f"×n goes on n times{chosen}"
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
