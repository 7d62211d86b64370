"""Which prefixes of token ids have been computed, and where: a radix tree over the slots of a token pool.

Every token of the tree has a slot of its own, so rows that begin alike share the slots of their common prefix, and a
fork copies nothing (RadixAttention: Zheng et al. 2024, SGLang, arXiv 2312.07104, section 3). Leaves that nobody has
asked for the longest go first when slots run out.
"""

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.int64]


class Path(NamedTuple):
    """Where a row of ids lies."""

    slots: Slots  # [T], one a token
    known: int  # tokens at its beginning that were in the tree before; the others are to be computed


class PrefixTree:
    """Slots ``first, first + 1, ..`` given to tokens by prefix. Not thread-safe."""

    def __init__(self, slots: int, *, first: int = 0) -> None:
        """Take the number of slots and the first of them."""
        self._range = (first, first + slots)
        self.clear()

    @property
    def size(self) -> int:
        """Tokens in the tree."""
        return self._range[1] - self._range[0] - len(self._free)

    def clear(self) -> None:
        """Forget everything."""
        self._free: Slots = np.arange(*self._range)[::-1]
        self._root = _Node((), np.empty(0, dtype=np.int64), None)
        self._turn = 0

    def known(self, ids: tuple[int, ...]) -> int:
        """How many tokens at the beginning of a row are in the tree; nothing changes."""
        node, known = self._root, 0
        while known < len(ids) and (child := node.children.get(ids[known])) is not None:
            common = _common(child.ids, ids, known)
            known += common
            if common < len(child.ids):
                break
            node = child
        return known

    def begin(self) -> None:
        """Begin a turn: what is asked for from now on stays until the next. Rows of a turn must fit side by side."""
        self._turn += 1

    def extend(self, ids: tuple[int, ...]) -> Path:
        """Find the longest prefix that is in the tree and give slots to the rest."""
        node, known = self._root, 0
        parts: list[Slots] = []
        node.turn = self._turn
        while known < len(ids) and (child := node.children.get(ids[known])) is not None:
            common = _common(child.ids, ids, known)
            if common < len(child.ids):
                child = child.split(common)
            child.turn = self._turn
            parts.append(child.slots)
            node, known = child, known + common
        if known < len(ids):
            parts.append(self._take(len(ids) - known))
            node.children[ids[known]] = _Node(ids[known:], parts[-1], node, self._turn)
        return Path(np.concatenate(parts), known)

    def _take(self, count: int) -> Slots:
        if count > len(self._free):
            self._evict(count)
        slots, self._free = self._free[-count:], self._free[:-count]
        return slots

    def _evict(self, count: int) -> None:
        """Free `count` slots and an eighth of all, so that looking for leaves is rare."""
        target = count + (self._range[1] - self._range[0]) // 8
        leaves = [(node.turn, id(node), node) for node in self._root.walk() if not node.children and node.parent]
        heapq.heapify(leaves)
        freed = [self._free]
        room = len(self._free)
        while leaves and leaves[0][0] < self._turn and room < target:
            leaf = heapq.heappop(leaves)[2]
            freed.append(leaf.slots)
            room += len(leaf.slots)
            parent = leaf.remove()
            if not parent.children and parent.parent:
                heapq.heappush(leaves, (parent.turn, id(parent), parent))
        self._free = np.concatenate(freed)
        if room < count:
            raise ValueError(
                f"the rows of one turn need more than the {self._range[1] - self._range[0]} slots there are"
            )


class _Node:
    """An edge of the tree, with the node that it leads to."""

    __slots__ = ("children", "ids", "parent", "slots", "turn")

    def __init__(self, ids: tuple[int, ...], slots: Slots, parent: "_Node | None", turn: int = 0) -> None:
        self.ids, self.slots, self.parent, self.turn = ids, slots, parent, turn
        self.children: dict[int, _Node] = {}  # by their first id

    def split(self, at: int) -> "_Node":
        """Put a node between this one and its parent that holds the first `at` tokens."""
        assert self.parent is not None
        upper = _Node(self.ids[:at], self.slots[:at], self.parent, self.turn)
        self.parent.children[self.ids[0]] = upper
        self.ids, self.slots, self.parent = self.ids[at:], self.slots[at:], upper
        upper.children[self.ids[0]] = self
        return upper

    def remove(self) -> "_Node":
        """Take a leaf out of the tree; its parent."""
        assert self.parent is not None
        del self.parent.children[self.ids[0]]
        return self.parent

    def walk(self) -> "list[_Node]":
        """This node and all below."""
        nodes = [self]
        for node in nodes:
            nodes.extend(node.children.values())
        return nodes


def _common(edge: tuple[int, ...], ids: tuple[int, ...], start: int) -> int:
    """How many tokens of an edge stand in a row from `start` on."""
    if ids[start : start + len(edge)] == edge:
        return len(edge)
    for count, token in enumerate(edge):
        if start + count == len(ids) or ids[start + count] != token:
            return count
    return len(edge)
