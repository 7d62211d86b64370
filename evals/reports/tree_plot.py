"""A search's tree as a picture: steps from left to right, a row a leaf. The same tree gives the same bytes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evals.reports.plots import panels
from evals.reports.tree import Tree, TreeNode, one_line, rows_of

CHOSEN, KEPT, STAYED = "#d1495b", "0.35", "0.75"  # lines
HEIGHT, WIDTH = (0.11, 0.2), (0.45, 1.9)  # inches of a row and of a step, least and most
TALLEST, WIDEST = 16.0, 16.0  # inches that are aimed at
LETTER = 0.6  # width of a letter of the monospaced font, of its size
POINTS = 72  # an inch
FAR = 6.0  # inches from where steps are numbered above, too
FEWEST, LAST = 12, 32  # letters of a step on a line, at least, and of one behind its mark, at most
BETWEEN = 0.13  # inches of a line that its marks take
MOST_TEXTS = 600  # nodes; beyond, marks alone


class _Page(NamedTuple):
    row: float  # inches
    step: float  # inches
    font: float  # points
    longest: int  # letters of the longest step

    @property
    def letter(self) -> float:
        """Width of a letter, in inches."""
        return LETTER * self.font / POINTS

    @property
    def letters(self) -> int:
        """Of a text between two marks."""
        return int((self.step - BETWEEN) / self.letter)


def write_tree(tree: Tree, path: Path, title: str = "") -> None:
    """Draw a tree; the suffix of `path` is .png or .svg.

    Lines: red leads to the chosen answer, dark goes on, pale did not. Marks: squares are finished solutions,
    crosses were cut by the budget; their colour is the score.
    """
    import matplotlib
    from matplotlib import pyplot

    rows = rows_of(tree)
    page = _page(tree, max(rows.values()) + 1)
    steps = max(node.depth for node in tree.values())
    behind = page.longest * page.letter
    size = (max(5.0, page.step * steps + behind + 1.4), page.row * (max(rows.values()) + 1) + 1.6)
    figure, (axes,) = panels(1, size)
    for node in tree.values():
        _line(axes, node, tree, rows)
    _marks(figure, axes, tree, rows)
    if len(tree) <= MOST_TEXTS:
        _texts(axes, tree, rows, page)
    axes.set_xlim(-0.15, steps + (behind + 0.2) / page.step)
    axes.set_ylim(max(rows.values()) + 0.8, -0.8)
    axes.set_xlabel("steps")
    axes.set_xticks(range(steps + 1))
    axes.tick_params(labeltop=size[1] > FAR)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_title(title, fontsize=9, loc="left")
    _legend(axes, tree)
    with matplotlib.rc_context({"svg.hashsalt": "bethink"}):  # ids in the SVG are random without it
        figure.savefig(path, dpi=150, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _page(tree: Tree, rows: int) -> _Page:
    row = min(max(TALLEST / rows, HEIGHT[0]), HEIGHT[1])
    font = min(7.0, 0.8 * row * POINTS)
    steps = max(node.depth for node in tree.values())
    longest = max(len(one_line(node.text, LAST)) for node in tree.values())
    wanted = (longest + len(" ×16")) * LETTER * font / POINTS + BETWEEN
    step = min(max(min(WIDEST / steps, wanted), WIDTH[0]), WIDTH[1])
    return _Page(row, step, font, longest)


def _line(axes: Any, node: TreeNode, tree: Tree, rows: Mapping[int, int]) -> None:
    """From the parent, down and across."""
    if node.parent is None:
        return
    parent = tree[node.parent]
    colour = CHOSEN if node.chosen else STAYED if node.stayed else KEPT
    x, y = parent.depth, rows[parent.id]
    axes.plot(
        [x, x, node.depth],
        [y, rows[node.id], rows[node.id]],
        color=colour,
        linewidth=1.6 if node.chosen else 0.8,
        solid_joinstyle="round",
        zorder=3 if node.chosen else 1 if node.stayed else 2,
    )


def _marks(figure: Any, axes: Any, tree: Tree, rows: Mapping[int, int]) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    scores = [node.score for node in tree.values() if node.score is not None and math.isfinite(node.score)]
    low, high = (0.0, 1.0) if all(0 <= score <= 1 for score in scores) else (min(scores), max(scores))
    scale, colours = Normalize(low, high), colormaps["viridis"]
    drawn = None
    for shape in ("o", "s", "X"):
        nodes = [node for node in tree.values() if _shape(node) == shape]
        drawn = axes.scatter(
            [node.depth for node in nodes],
            [rows[node.id] for node in nodes],
            c=[math.nan if node.score is None else node.score for node in nodes],
            cmap=colours,
            norm=scale,
            plotnonfinite=True,
            marker=shape,
            s=18,
            edgecolors=["0.75" if node.stayed else "0.15" for node in nodes],
            linewidths=0.7,
            zorder=5,
        )
    if scores:
        width, height = figure.get_size_inches()
        where = {"shrink": min(0.6, 1.6 / height), "fraction": 0.8 / width, "pad": 0.01, "anchor": (0.0, 1.0)}
        figure.colorbar(drawn, ax=axes, label="score", aspect=10, **where)


def _shape(node: TreeNode) -> str:
    return "X" if node.cut else "s" if node.finished else "o"


def _texts(axes: Any, tree: Tree, rows: Mapping[int, int], page: _Page) -> None:
    """Each step on its line, or its number where lines are too short; a last one behind its mark."""
    style = {"va": "center", "fontsize": page.font, "family": "monospace"}
    told = page.letters >= min(FEWEST, page.longest)
    for node in tree.values():
        if node.parent is None:
            continue
        colour = "0.55" if node.stayed else "0.1"
        if not node.children:
            at = (node.depth + 7 / (page.step * POINTS), rows[node.id])
            axes.annotate(one_line(node.text, LAST), at, ha="left", color=colour, **style)
            continue
        times = f" ×{node.copies}" if node.copies > 1 else ""
        text = one_line(node.text, page.letters - len(times)) if told else str(node.id)
        box = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
        axes.annotate(
            text + times, (node.depth - 0.5, rows[node.id]), ha="center", color=colour, bbox=box, zorder=4, **style
        )


def _legend(axes: Any, tree: Tree) -> None:
    from matplotlib.lines import Line2D

    lines = [("to the answer", CHOSEN, 1.6)] if any(node.chosen for node in tree.values()) else []
    lines += [("went on", KEPT, 0.8), ("did not", STAYED, 0.8)]
    handles = [Line2D([], [], color=colour, linewidth=width, label=label) for label, colour, width in lines]
    style: dict[str, Any] = {"linestyle": "", "markerfacecolor": "white", "markeredgecolor": "0.15", "markersize": 4.5}
    marks = {"o": "open", "s": "finished", "X": "cut by the budget"}
    shown = {_shape(node) for node in tree.values()}
    handles += [Line2D([], [], marker=mark, label=label, **style) for mark, label in marks.items() if mark in shown]
    axes.figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8)
