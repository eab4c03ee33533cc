"""Which file an annotation means by the name it gives an image."""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict

from sightline.data.findings import Faults
from sightline.data.tree import IMAGE_FOLDERS, MASK_FOLDERS, NOTE_FOLDERS, ROLES, Tree, folder_split, folders_of


class ImageFinder:
    """Looks for the images that the annotation file ``source`` names, of a split or "".

    A name is meant relative to the annotations' folder, to the top, or to any other folder that is not for masks or another split. Of
    those, one of the split goes first, then one for images, then one that the others lie in; where that leaves several, none is taken.
    A way from another machine's root is tried from its end. ``what`` is how a fault calls images that are not there.
    """

    def __init__(self, tree: Tree, source: str, split: str, faults: Faults, what: str = "images") -> None:
        self._tree = tree
        self._folder = "/".join(folders_of(source))
        self._split = split
        self._faults = faults
        self._what = what
        self._by_last: dict[str, list[str]] | None = None

    def found(self, written: str) -> str | None:
        """The name in the tree; None, and a fault, where there is no such file, or several that may be meant."""
        way = written.replace("\\", "/")
        nearby = posixpath.normpath(posixpath.join(self._folder, way))
        if nearby in self._tree.known:
            return nearby
        if not self._tree.packed and nearby.startswith(("/", "../")) and os.path.isfile(self._tree.root / nearby):
            return nearby
        foreign = way.startswith("/") or re.match("[A-Za-z]:", way)
        parts = [part for part in way.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts) if foreign else min(1, len(parts))):
            if able := self._ending_in("/".join(parts[start:])):
                if len(able) == 1:
                    return able[0]
                self._faults.add("names that several images have, left out", written)
                return None
        self._faults.add(f"{self._what} that are not there, left out", written)
        return None

    def _ending_in(self, way: str) -> list[str]:
        """The images that a way may mean, none of them more likely than another."""
        if self._by_last is None:
            self._by_last = defaultdict(list)
            for name in self._tree.images:
                self._by_last[name.rsplit("/", 1)[-1]].append(name)
        likely: defaultdict[tuple[bool, ...], list[str]] = defaultdict(list)
        for name in self._by_last.get(way.rsplit("/", 1)[-1], ()):
            if name == way or name.endswith(f"/{way}"):
                prefix = name[: len(name) - len(way)]
                splits = {folder_split(folder) for folder in folders_of(prefix)} - {""}
                kind = next((folder.lower() for folder in reversed(folders_of(prefix)) if folder.lower() in ROLES), "")
                if kind not in MASK_FOLDERS and (not self._split or splits <= {self._split}):
                    likely[bool(self._split) and not splits, kind not in IMAGE_FOLDERS, kind in NOTE_FOLDERS].append(prefix)
        return [f"{prefix}{way}" for prefix in _outermost(likely[min(likely)])] if likely else []


def _outermost(prefixes: list[str]) -> list[str]:
    """The one that all others begin with; all of them where there is none."""
    outer = min(prefixes, key=len)
    return [outer] if all(prefix.startswith(outer) for prefix in prefixes) else prefixes
