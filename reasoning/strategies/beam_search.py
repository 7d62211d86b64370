"""Beam search over steps, guided by a judge.

Beeching, Tunstall and Rush 2024, *Scaling test-time compute with open models* (the search-and-learn library), after
Snell et al. 2024, arXiv 2408.03314, section 5.2. Each round writes n steps; the best ``n / width`` prefixes are kept
and get `width` children each (there, `width` is the "beam width").

What has ended is never written on, copied or dropped, whatever its score: all of it is chosen from. Where it stands
while others go on is `finished`:

- ``slot``: one that is among the best of its round takes a place for good, so the search narrows as solutions come in,
  and ends when they have every place. With one place it is a subtree of DVTS. This is the default.
- ``extra``, as released: aside; the best open prefixes go on until there is none. Every round has n children, and from
  whatever has ended search goes on with what has not: unless all children of a round happen to end, it goes on to the
  limit of steps. For the published figures.
- ``compete``: all that has ended competes in every round with its last score, as in its_hub; the search ends when it
  has every place.

The released code differs where it is wrong: it tiles survivors to n in list order, so that surplus copies go to the
first (here, to the best); takes a step that reached its limit for an ended solution; keeps the first n ended ones,
which are the shortest, and copies them up to n; counts no tokens; rolls lookahead out without judging it. its_hub
copies ended beams. `duplicates` is ``merge`` as in the released recipes: equal prefixes hold one place, as in any beam
search over tokens; with ``keep``, as many as there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.engine import Capability
from decoding.errors import ConfigError
from reasoning.run import Run
from reasoning.scores import Score
from reasoning.search.beams import Beams, distinct, look_ahead, ranked, spread, tips
from reasoning.search.search import Search
from reasoning.search.tree import Node, selected
from reasoning.strategies.base import SEARCH_NEEDS
from reasoning.trajectory import Prompt, Result

FINISHED = ("slot", "extra", "compete")
DUPLICATES = ("merge", "keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSearch(Beams):
    """The best n / width prefixes go on, step by step."""

    name: ClassVar[str] = "beam"
    needs: ClassVar[frozenset[Capability]] = SEARCH_NEEDS  # and the score's

    n: int = 16  # children a round
    width: int = 4  # of them, of each prefix that is kept
    score: str | Score = "prm"  # a name of reasoning.scores, or a score
    lookahead: int = 0  # greedy steps after which a prefix is judged for the selection
    finished: str = "slot"  # or "extra", "compete"
    duplicates: str = "merge"  # or "keep"
    choose: str = "best"  # by the score; or "vote", "majority", "sample"

    def __post_init__(self) -> None:
        Beams.__post_init__(self)
        if self.finished not in FINISHED:
            raise ConfigError(f"unknown place for finished beams {self.finished!r}: there are {', '.join(FINISHED)}")
        if self.duplicates not in DUPLICATES:
            raise ConfigError(f"unknown treatment of duplicates {self.duplicates!r}: there are {', '.join(DUPLICATES)}")

    async def __call__(self, run: Run, prompt: Prompt) -> Result:
        """Write, judge, keep the best, until nothing goes on."""
        search, places = Search(run, prompt, self.scoring), self.n // self.width
        going = {search.root: self.n}
        ended: list[Node] = []
        while going:
            children = await search.grow([node for node, count in going.items() for _ in range(count)])
            ended += [child for child in children if child.finished]
            pool = self._pool(ended, children)
            scores = await look_ahead(search, pool, self.lookahead)
            if search.exhausted:
                return await self._conclude(run, search, ended + tips(going, children))
            top = ranked(scores)[:places]
            survivors = [node for node in top if not node.finished]
            taken = len(top) - len(survivors)
            going = spread(survivors, (places - taken) * self.width)
            run.record(selected(pool, going))
            if self.finished == "slot":
                places -= taken
        return await self._conclude(run, search, ended)

    def _pool(self, ended: Sequence[Node], children: Sequence[Node]) -> list[Node]:
        """Who competes for the places."""
        pool = list(children)
        if self.finished != "slot":
            pool = [child for child in children if not child.finished]
        if self.finished == "compete":
            pool = [*ended, *pool]
        return distinct(pool) if self.duplicates == "merge" else pool
