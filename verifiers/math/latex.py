r"""One spelling for LaTeX that means the same, and limits on what is read at all.

What `normalise` leaves has no spacing, no ``\left``, no dollar signs round it; ``\dfrac`` is ``\frac``, ``\mbox`` is
``\text``, ``\leq`` is ``\le``, and what Unicode has signs for is in LaTeX. Words stand in ``\text{...}``.
"""

import re
from functools import lru_cache

from verifiers.math.form import Unreadable

MAX_LENGTH = 2_000  # characters
MAX_DEPTH = 50  # brackets within brackets

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\xa0\u2007\u2009\u202f\u200a\u3000\t\r\n", " "),
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "×": r"\times ",
        "·": r"\cdot ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "±": r"\pm ",
        "°": r"^\circ ",
        "√": r"\sqrt ",
        "÷": "/",
        "²": "^2",
        "³": "^3",
        "½": r"\frac12",
        "¼": r"\frac14",
        "¾": r"\frac34",
        "⅓": r"\frac13",
        "⅔": r"\frac23",
        "∅": r"\emptyset ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "λ": r"\lambda ",
        "£": r"\$",
        "€": r"\$",
    }
)
_SAME = {
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["mbox", "textrm", "textbf", "textit", "textnormal", "hbox", "texttt", "textsf"], r"\text"),
    **dict.fromkeys(["mathrm", "mathbf", "mathit", "mathsf", "mathtt", "operatorname", "bold", "rm", "bf"], r"\text"),
    **dict.fromkeys(["boldsymbol", "pmb", "displaystyle", "textstyle", "limits", "left", "right", "phantom"], ""),
    **dict.fromkeys(["big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "mathstrut"], ""),
    **dict.fromkeys(["quad", "qquad", "thinspace", "enspace", "hspace"], " "),
    "leq": r"\le",
    "geq": r"\ge",
    "leqslant": r"\le",
    "geqslant": r"\ge",
    "neq": r"\ne",
    "lt": "<",
    "gt": ">",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "dbinom": r"\binom",
    "tbinom": r"\binom",
    "choose": r"\choose",
    "degree": r"^\circ",
    "varnothing": r"\emptyset",
    "times": r"\cdot",
    "ast": r"\cdot",
    "cdotp": r"\cdot",
    "div": "/",
    "colon": ":",
    "degrees": r"^\circ",
    "land": r"\text{and}",
    "lor": r"\text{or}",
    "mid": "|",
    "langle": "(",
    "rangle": ")",
    "bigcup": r"\cup",
    "bigcap": r"\cap",
}
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\-")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:,\\[!,;]\s*|\{,\}\s*|\\[,!]\s*)(?=[0-9]{3})")
_TEXT = re.compile(r"\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TOKEN = re.compile(
    r"(?P<text>\\text\s*\{(?:[^{}]|\{[^{}]*\})*\})|(?P<command>\\(?:begin|end)\s*\{[a-z]+\*?\}|\\[A-Za-z]+|\\.)"
    r"|(?P<word>[A-Za-z]{2,})|(?P<space>\s+)|(?P<sign>.)",
    re.DOTALL,
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_WRAPPED = re.compile(r"\$+(.*?)\$+|\\\((.*?)\\\)|\\\[(.*?)\\\]|\*\*(.*?)\*\*|`(.*?)`")
_ROW = "\x00"  # stands for the end of a matrix's row meanwhile; no readable text holds it
_BARE_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan ln log exp sqrt pi infty".split()  # noqa: SIM905
_OPENING, _CLOSING = "([{", ")]}"
# Words of two or three letters; others of that length are products of unknowns.
_SHORT_WORDS = frozenset(
    """am an are as at by cm dm ft gm hr hrs in is it km kg kmh lb lbs mi min ml mm mph no odd of oz pm sec sq the to yd
    yds yes all and for or per not day cup men she her his has bc ad cc usd inf""".split()  # noqa: SIM905
)


def require_readable(text: str) -> None:
    """Raise `Unreadable`, saying why, for a text that no expression looks like; takes no time for the longest one."""
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"more than {MAX_LENGTH} characters")
    if _CONTROL.search(text):
        raise Unreadable("control characters")
    depth = deepest = 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH or text.count("^") > MAX_DEPTH or text.count("\\") > 10 * MAX_DEPTH:
        raise Unreadable(f"more than {MAX_DEPTH} levels")


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """The spelling by which answers are read and, first of all, compared."""
    text = _unwrap(text.translate(_SIGNS).strip()).replace(r"\\", _ROW)
    text = _THOUSANDS.sub("", text)
    for old, new in ((r"\$", r"\dollar "), (r"\%", "%"), (r"\&", "&"), ("$", ""), (r"\left.", ""), (r"\right.", "")):
        text = text.replace(old, new)
    text = _COMMAND.sub(lambda match: _SAME.get(match[1], match[0]), text)
    return _join(_tokens(_SPACING.sub(" ", text))).replace(_ROW, r"\\").rstrip(".,; ")


def letters(text: str) -> str:
    r"""A normalised spelling read as words: no ``\text``, brackets, spaces or quotes."""
    return re.sub(r"\\text(?![A-Za-z])|[(){}\s\"'`.:*]", "", text)


def _unwrap(text: str) -> str:
    """Without the signs that put a whole text into mathematics or bold print."""
    for _ in range(3):
        text = text.rstrip(".").strip()
        match = _WRAPPED.fullmatch(text)
        if match is None or "$" in (match[1] or ""):
            return text
        text = next(group for group in match.groups() if group is not None).strip()
    return text


def _tokens(text: str) -> list[str]:
    r"""Commands, signs, spaces, and words in ``\text``; neighbouring words are one text."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match.lastgroup == "text":
            token = _as_text(token[token.index("{") + 1 : -1])
        elif match.lastgroup == "word" and token in _BARE_FUNCTIONS:
            token = "\\" + token
        elif match.lastgroup == "word" and (len(token) > 3 or token.lower() in _SHORT_WORDS):
            token = _as_text(token)
        elif match.lastgroup == "space":
            token = " "
        if token.startswith(r"\text{") and "".join(tokens[-2:]).rstrip().endswith("}"):
            before = len(tokens) - 1 - (tokens[-1] == " ")
            if tokens[before].startswith(r"\text{"):
                token = _as_text(tokens[before][6:-1] + " " + token[6:-1])
                del tokens[before:]
        tokens.append(token)
    return tokens


def _as_text(words: str) -> str:
    return r"\text{" + " ".join(words.split()) + "}"


def _join(tokens: list[str]) -> str:
    """The tokens without spaces, but for those that part digits, or a command from a letter."""
    pieces: list[str] = []
    for index, token in enumerate(tokens):
        last = pieces[-1] if pieces else ""
        if token == " ":
            following = tokens[index + 1][:1] if index + 1 < len(tokens) else ""
            if following.isdigit() and last[-1:] and last[-1] in "0123456789,;":
                pieces.append(" ")
            continue
        if token[0].isalpha() and re.fullmatch(r"\\[A-Za-z]+", last):
            pieces.append(" ")
        pieces.append(token)
    return "".join(pieces)
