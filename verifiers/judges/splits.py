"""How a text falls into steps: explicit, since a split that is not the model's own changes its scores without a word.

All splits give at least one step. Only delimiters and the white space around steps go.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class AtDelimiter:
    """Steps lie between delimiters; those of white space are left out."""

    delimiter: str

    def __call__(self, text: str) -> tuple[str, ...]:
        """The steps, without delimiters."""
        return _some(text.split(self.delimiter), text)


@dataclass(frozen=True, slots=True)
class AtHeadings:
    """Steps begin with a heading, "Step 1:", at the start of a line; what stands before the first belongs to it.

    A text without headings falls into paragraphs.
    """

    heading: str = r"Step \d+:"

    def __call__(self, text: str) -> tuple[str, ...]:
        """The steps, with their headings."""
        starts = [match.start() for match in re.finditer(rf"^{self.heading}", text, re.MULTILINE)]
        bounds = [0, *starts[1:], len(text)]
        return _some((text[a:b] for a, b in pairwise(bounds)), text) if starts else AtDelimiter("\n\n")(text)


@dataclass(frozen=True, slots=True)
class AtEndings:
    """Steps end with a tag, which belongs to them."""

    ending: str

    def __call__(self, text: str) -> tuple[str, ...]:
        """The steps, with their endings; what follows the last one is a step that is not finished."""
        return _some(re.split(rf"(?<={re.escape(self.ending)})", text), text)


@dataclass(frozen=True, slots=True)
class Undivided:
    """The whole text is one step."""

    def __call__(self, text: str) -> tuple[str, ...]:
        """One step."""
        return (text,)


def _some(parts: Iterable[str], text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in parts if part.strip()) or (text,)
