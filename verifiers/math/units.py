"""Units behind and before a number: which are the same, and which words are scales."""

import re
from functools import lru_cache

_SYNONYMS = """
degree deg degrees °
percent
dollar dollars usd buck bucks
cent cents
inch inches in
foot feet ft
yard yards yd yds
mile miles mi
millimeter millimeters millimetre millimetres mm
centimeter centimeters centimetre centimetres cm
decimeter decimeters dm
meter meters metre metres m
kilometer kilometers kilometre kilometres km
gram grams g gm
kilogram kilograms kg
ounce ounces oz
pound pounds lb lbs
ton tons
second seconds sec secs s
minute minutes min mins
hour hours hr hrs h
day days
week weeks
month months
year years yr yrs
liter liters litre litres l
milliliter milliliters ml
gallon gallons gal
quart quarts
mph
radian radians rad
"""
_UNITS = {name: line.split()[0] for line in _SYNONYMS.strip().splitlines() for name in line.split()}
_PREFIXES = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SUFFIXES = {"squared": 2, "cubed": 3}


@lru_cache(maxsize=1024)
def read_unit(words: str, power: str = "") -> str | None:
    """The unit that words name, ``inch^2`` for square inches; None where they name none that is known here."""
    parts = [part for part in re.split(r"[\s.]+", words.casefold()) if part]
    dimension = int(power or 1)
    if parts and parts[0] in _PREFIXES:
        dimension *= _PREFIXES[parts.pop(0)]
    if parts and parts[-1] in _SUFFIXES:
        dimension *= _SUFFIXES[parts.pop()]
    if len(parts) != 1 or parts[0] not in _UNITS:
        return None
    return _UNITS[parts[0]] + (f"^{dimension}" if dimension != 1 else "")


def read_scale(words: str) -> tuple[int, str]:
    """The power of ten that words begin with, and the words behind: (6, "dollars") for million dollars."""
    first, _, rest = words.strip().partition(" ")
    scale = _SCALES.get(first.casefold(), 0)
    return (scale, rest) if scale else (0, words)
