"""Label names that may be one: another case, a hyphen, a plural, a slip of the finger."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

# Letters that a word has at least before an "s" is taken for a plural, the longer of two before one letter more or two exchanged are
# taken for a slip, and before one letter for another is: shorter ones, such as "cat" and "bat" or "beaver" and "beaker", differ for a
# reason. Of the names of the 1,000 classes of ImageNet, only "sunglass" and "sunglasses" then look alike.
FEWEST_IN_PLURAL, FEWEST_IN_SLIP, FEWEST_IN_EXCHANGE = 3, 6, 7
# Up to so many letters, what is written in capitals is a code, such as "LE" and "LES", and no word.
LONGEST_CODE = 4
# Endings of plurals, and what stands there in the singular.
_PLURALS = (("s", ""), ("ies", "y"), ("oes", "o"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("sses", "ss"))
_WORD = re.compile(r"[^\W\d_]+|\d+")
# What divides says nothing beside a letter; between digits it does, as in "1-1" and "11", and before a number, as in "-1".
_DIVIDER = re.compile(r"(?<=[^\W\d_])[\s_-]+(?=[^\W_])|(?<=[^\W_])[\s_-]+(?=[^\W\d_])")


class Alike(NamedTuple):
    """Two labels, by index, a < b, that may be one, and how they differ, in words."""

    a: int
    b: int
    how: str


def lookalikes(names: Sequence[str]) -> list[Alike]:
    """Pairs of names that may be one, the plainest first; names that differ in digits, a first letter or short words are not among them.

    Names are compared only where they share all words but one, and of that one all letters but one: time grows with their number,
    not with that of all pairs.
    """
    written = [unicodedata.normalize("NFKC", name).strip() for name in names]
    found: dict[tuple[int, int], Alike] = {}
    for a, b in _sharing([_joined(name)] if len(name) > 1 else [] for name in written):
        spaced = [" ".join(written[place].casefold().split()) for place in (a, b)]
        found[a, b] = Alike(
            a, b, "differ only in case or blanks" if spaced[0] == spaced[1] else "differ only in blanks, hyphens or underscores"
        )
    words = [_WORD.findall(name) for name in written]
    for a, b in _sharing(map(_nearly, words)):
        differing = [(one, other) for one, other in zip(words[a], words[b], strict=True) if one.casefold() != other.casefold()]
        if len(differing) == 1 and (a, b) not in found and (how := _slip(*differing[0])):
            found[a, b] = Alike(a, b, how)
    return list(found.values())


def _sharing(keys_of: Iterable[Iterable[object]]) -> Iterator[tuple[int, int]]:
    """Pairs of places, the smaller first, that have a key in common, some of them more than once."""
    holders: dict[object, list[int]] = defaultdict(list)
    for place, keys in enumerate(keys_of):
        for key in set(keys):
            holders[key].append(place)
    for places in holders.values():
        yield from combinations(places, 2)


def _joined(name: str) -> str:
    return _DIVIDER.sub("", name.casefold())


def _nearly(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The words with one of them in the singular, or without one of its letters but the first: what near names have in common."""
    plain = [word.casefold() for word in words]
    for place, word in enumerate(plain):
        if word.isdigit() or _is_code(words[place]):
            continue
        near = {word, *_singulars(word)}
        if len(word) >= FEWEST_IN_SLIP - 1:
            near |= {word[:letter] + word[letter + 1 :] for letter in range(1, len(word))}
        for each in near:
            yield (*plain[:place], f"{place}:{each}", *plain[place + 1 :])


def _slip(one: str, other: str) -> str:
    """How two words differ, if that may be by mistake, or ""."""
    if _is_code(one) or _is_code(other):
        return ""
    one, other = sorted((one.casefold(), other.casefold()), key=len)
    if one in _singulars(other):
        return "differ only in a plural"
    if one[0] != other[0] or len(other) < FEWEST_IN_SLIP:
        return ""
    return "differ in one letter" if _one_edit(one, other) else ""


def _one_edit(short: str, long: str) -> bool:
    """Whether one letter more, two exchanged or, in longer words, another one make a word of the other."""
    same = next((place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[same:] == long[same + 1 :]
    exchanged = short[same : same + 2] == long[same : same + 2][::-1] and short[same + 2 :] == long[same + 2 :]
    return exchanged or (len(long) >= FEWEST_IN_EXCHANGE and short[same + 1 :] == long[same + 1 :])


def _singulars(word: str) -> list[str]:
    """What a word may be the plural of, as far as letters tell: of "shoes" both "shoe" and "sho"."""
    found = [] if word.endswith("ss") else [word.removesuffix(ending) + instead for ending, instead in _PLURALS if word.endswith(ending)]
    return [stem for stem in found if len(stem) >= FEWEST_IN_PLURAL]


def _is_code(word: str) -> bool:
    return word.isupper() and len(word) <= LONGEST_CODE
