"""Which file an annotation means by the name it gives an image."""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict

from sightline.data.tree import Tree, folder_split, folders_of


class ImageFinder:
    """Looks for the images that the annotation file ``source`` names, of a split or "".

    A name is meant relative to the annotations' folder, to the top, or to any other folder, of which those of another split are left
    out, and of the rest the highest is taken. A way from another machine's root is tried from its end.
    """

    def __init__(self, tree: Tree, source: str, split: str) -> None:
        self._tree = tree
        self._folder = "/".join(folders_of(source))
        self._split = split
        self._by_last: dict[str, list[str]] | None = None

    def found(self, written: str) -> str | None:
        """The name in the tree; None where there is no such file."""
        way = written.replace("\\", "/")
        nearby = posixpath.normpath(posixpath.join(self._folder, way))
        if nearby in self._tree.known:
            return nearby
        if not self._tree.packed and nearby.startswith(("/", "../")) and os.path.isfile(self._tree.root / nearby):
            return nearby
        foreign = way.startswith("/") or re.match("[A-Za-z]:", way)
        parts = [part for part in way.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts) if foreign else min(1, len(parts))):
            if found := self._ending_in("/".join(parts[start:])):
                return found
        return None

    def _ending_in(self, way: str) -> str | None:
        if self._by_last is None:
            self._by_last = defaultdict(list)
            for name in self._tree.images:
                self._by_last[name.rsplit("/", 1)[-1]].append(name)
        able = []
        for name in self._by_last.get(way.rsplit("/", 1)[-1], ()):
            if name == way or name.endswith(f"/{way}"):
                prefix = name[: len(name) - len(way)]
                splits = {folder_split(folder) for folder in prefix.split("/")} - {""}
                if not self._split or splits <= {self._split}:
                    able.append((not splits, prefix.count("/"), name))
        return min(able)[2] if able else None
