"""The program of ETS: which open nodes of a tree are worth the cache that they hold, solved to its optimum.

Hooper et al. 2025, *ETS: Efficient Tree Search for Inference-Time Scaling*, arXiv 2502.13575, after its released code.
With V the open nodes (leaves) and all of their ancestors, choose which leaves stay, x, so as to

    maximise   sum_i value_i x_i - lambda_b sum_v cost_v y_v + (lambda_d / K) sum_k z_k
    where      y_v = 1 if a leaf at or below v stays, z_k = 1 if a leaf of cluster k does, and at least one stays.

value_i is the leaf's share of the children to come; costs are shares too and sum to 1. With lambda_b > 0 no y is larger
than it must be and no z smaller than it may be, so they need no upper and lower sides, nor to be whole numbers. A node
is needed if a child is, so one row an edge does.

Without clusters the optimum is read off the tree from below. That optimum plus full coverage is a bound, so where it
covers all clusters it is the optimum with them too, and a cluster of one is a part of its leaf's value. Only what is
left goes to HiGHS.

**Ties.** Each leaf is worth `_TIE` to 2 `_TIE` more than its share, the lower its index the more: of equally good
choices more leaves stay, then those of lower indices. Where nothing costs anything all stay.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decoding.errors import ConfigError
from reasoning.search.tree import Node

NODE_COSTS = ("unit", "tokens")
_TIE = 1e-8
_SCALE = 1e5  # HiGHS stops within 1e-6 of the optimum: numbers are scaled so that ties are broken above that
_MOST_BRANCHES = (
    10_000  # of the solver's tree; random levels of 256 leaves take one. A limit in time would be the machine's
)


def check_node_cost(how: str) -> None:
    """Raises ``ConfigError`` for a cost that there is not."""
    if how not in NODE_COSTS:
        raise ConfigError(f"unknown node_cost {how!r}: there are {', '.join(NODE_COSTS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A choice of leaves. Nodes are numbered with parents before their children; the root is 0."""

    parents: tuple[int, ...]  # [V]; the root's is -1
    costs: tuple[float, ...]  # of each node, [V], lambda_b included
    leaves: tuple[int, ...]  # their numbers, [N]
    values: tuple[float, ...]  # [N]
    clusters: tuple[int, ...]  # of the leaves, [N], any numbers
    cover: float  # what one covered cluster is worth, lambda_d / K

    def worth(self) -> list[float]:
        """Of each leaf by itself, [N]: its value, its cluster if it is alone there, and what breaks ties."""
        size, n = Counter(self.clusters), len(self.leaves)
        return [
            value + _TIE * (2 - i / n) + (self.cover if size[cluster] == 1 else 0.0)
            for i, (value, cluster) in enumerate(zip(self.values, self.clusters, strict=True))
        ]

    def shared(self) -> dict[int, list[int]]:
        """The leaves, by place among the leaves, of each cluster that has more than one."""
        members: dict[int, list[int]] = {}
        for place, cluster in enumerate(self.clusters):
            members.setdefault(cluster, []).append(place)
        return {cluster: places for cluster, places in members.items() if len(places) > 1}


def program(
    leaves: Sequence[Node],
    shares: Sequence[float],
    clusters: Sequence[int],
    *,
    lambda_b: float,
    lambda_d: float,
    node_cost: str,
) -> Program:
    """The program of a level.

    Args:
        leaves: Its open nodes, [N].
        shares: Of the children to come, [N], summing to 1.
        clusters: Of the leaves, [N].
        lambda_b: What all nodes cost together, at least 0.
        lambda_d: What covering all clusters is worth, at least 0.
        node_cost: ``unit``: each node the same, the root too, as in the released code. ``tokens``: by the tokens of its
            step; the root, which is the prompt and always held, costs nothing.
    """
    nodes = sorted({node for leaf in leaves for node in leaf.path()}, key=lambda node: node.id)
    number = {node: index for index, node in enumerate(nodes)}
    sizes = [1 if node_cost == "unit" else len(node.step.token_ids) if node.depth else 0 for node in nodes]
    unit = lambda_b / max(1, sum(sizes))
    return Program(
        parents=tuple(-1 if node.parent is None else number[node.parent] for node in nodes),
        costs=tuple(size * unit for size in sizes),
        leaves=tuple(number[leaf] for leaf in leaves),
        values=tuple(shares),
        clusters=tuple(clusters),
        cover=lambda_d / max(1, len(set(clusters))),
    )


def solve(problem: Program) -> list[bool]:
    """Which leaves stay, [N]; at least one does."""
    kept = solve_by_tree(problem)
    return solve_by_branching(problem) if kept is None else kept


def solve_by_tree(problem: Program) -> list[bool] | None:
    """As `solve`, in a pass over the tree; None where clusters make that too simple."""
    worth, n = problem.worth(), len(problem.parents)
    children: list[list[int]] = [[] for _ in range(n)]
    for child, parent in enumerate(problem.parents[1:], start=1):
        children[parent].append(child)
    best = [-cost for cost in problem.costs]  # of a node's subtree, if something of it stays
    for leaf, value in zip(problem.leaves, worth, strict=True):
        best[leaf] += value
    for node in reversed(range(n)):
        if children[node]:
            # A node is held for the sake of its children: if none is worth it, of the best of them.
            children[node] = [c for c in children[node] if best[c] > 0] or [max(children[node], key=best.__getitem__)]
            best[node] += math.fsum(best[child] for child in children[node])
    going = [0]
    for node in going:
        going += children[node]
    needed = set(going)
    kept = [leaf in needed for leaf in problem.leaves]
    covered = all(any(kept[place] for place in places) for places in problem.shared().values())
    return kept if covered or problem.cover == 0 else None


def solve_by_branching(problem: Program) -> list[bool]:
    """As `solve`, by branch and bound (HiGHS). Variables are [y of all nodes (x is that of the leaves), z]."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # takes half a second, and few who import this come here
    from scipy.sparse import coo_array

    n, shared = len(problem.parents), list(problem.shared().values())
    rewards = np.zeros(n + len(shared))
    rewards[:n] = np.negative(problem.costs)
    rewards[list(problem.leaves)] += problem.worth()
    rewards[n:] = problem.cover
    # Rows that are at least 0: a parent less its child; a cluster's leaves less the cluster.
    rows = [[(parent, 1), (child, -1)] for child, parent in enumerate(problem.parents) if parent >= 0]
    for k, places in enumerate(shared):
        rows.append([(problem.leaves[place], 1) for place in places] + [(n + k, -1)])
    rows.append([(leaf, 1) for leaf in problem.leaves])  # at least 1
    entries = [(row, column, value) for row, line in enumerate(rows) for column, value in line]
    where, what = ([e[0] for e in entries], [e[1] for e in entries]), [e[2] for e in entries]
    least = np.zeros(len(rows))
    least[-1] = 1
    whole = np.zeros(len(rewards))
    whole[list(problem.leaves)] = 1
    found = milp(
        -_SCALE * rewards,
        constraints=LinearConstraint(coo_array((what, where), shape=(len(rows), len(rewards))), lb=least),
        integrality=whole,
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "node_limit": _MOST_BRANCHES},
    )
    assert found.x is not None, found.message  # keeping all is feasible
    return [bool(found.x[leaf] > 0.5) for leaf in problem.leaves]
