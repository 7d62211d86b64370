"""Diverse verifier tree search: independent subtrees, each of which follows its best child.

Beeching, Tunstall and Rush 2024, *Scaling test-time compute with open models* (the search-and-learn library). A budget
of n is split into ``n / width`` subtrees. Each step writes `width` children of every subtree's node and keeps the one
that the judge likes best; a subtree is done when that one has ended. So one prefix that looks good can't take over
the search, as it can in beam search. Subtree k is the same whatever comes behind it: n more samples add subtrees.

Chosen from are, first, the subtrees' best and then whatever else has ended or, among a subtree's last children, gives
an answer. In this order, which decides ties, a judge that says nothing leaves the model's own law.

The released code differs: it returns all last children, ended or not, and loses solutions that ended earlier and were
not the best of their step; it takes a step that reached its limit for an ended solution; it drops a subtree that
returns too few children; it counts no tokens. There, a subtree is also done when its text has ``boxed{``: that is
`until_answer` of the run's steps.
"""

from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from decoding.engine import Capability
from reasoning.run import Run
from reasoning.scores import Score
from reasoning.search.beams import Beams, look_ahead, ranked
from reasoning.search.search import Search
from reasoning.search.tree import Node, selected
from reasoning.strategies.base import SEARCH_NEEDS
from reasoning.trajectory import Prompt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class DVTS(Beams):
    """n / width subtrees, each of which follows its best child."""

    name: ClassVar[str] = "dvts"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 16  # children a round
    width: int = 4  # of them, of each subtree
    score: str | Score = "prm"  # a name of reasoning.scores, or a score
    lookahead: int = 0  # greedy steps after which a child is judged for the selection
    choose: str = "best"  # by the score; or "vote", "majority", "sample"

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """In each subtree, write, judge and keep the best, until that has ended."""
        search = Search(run, prompt, self.scoring)
        best = dict.fromkeys(range(self.n // self.width), search.root)
        last: dict[int, list[Node]] = {}  # the best one and its siblings
        written: list[Node] = []
        going = list(best)
        while going and not search.exhausted:
            children = await search.grow([best[subtree] for subtree in going for _ in range(self.width)])
            scores = await look_ahead(search, children, self.lookahead)
            for first, subtree in zip(count(0, self.width), going, strict=False):
                if family := children[first : first + self.width]:
                    last[subtree] = family
                    best[subtree] = ranked({child: scores[child] for child in family})[0]
            written += children
            going = [subtree for subtree in going if not best[subtree].finished]
            if not search.exhausted:
                run.record(selected(children, {best[subtree]: self.width for subtree in going}))
        kept = [node for node in best.values() if node is not search.root]
        answering = {node for family in last.values() for node in family if node.candidate.answer is not None}
        others = [node for node in written if (node.finished or node in answering) and node not in kept]
        return await self._conclude(run, search, kept + others)
