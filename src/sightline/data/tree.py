"""All files of a place by their way from its top, alike for a folder on disk and for an archive; and what folders' names say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from sightline.data.container import all_members, is_archive
from sightline.data.decode import Limits, read_bytes
from sightline.data.folder import SPLIT_NAMES
from sightline.data.listing import Folder, folders_on_disk, image_names, shown_names
from sightline.errors import ImageError
from sightline.records import ImageRef
from sightline.texts import Texts

# Folders that say what kind of file they hold, in lower case.
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages"})
MASK_FOLDERS = frozenset({"masks", "mask", "segmentationclass"})
NOTE_FOLDERS = frozenset({"annotations", "annotation", "labels", "xml", "xmls"})
ROLES = IMAGE_FOLDERS | MASK_FOLDERS | NOTE_FOLDERS
LINKS_DEPTH = 3


@dataclass(frozen=True)
class Tree:
    """The files of a place by their ways, with slashes, from ``top``, the folders that all lie in.

    others   the files that are no images, which may say what is on these
    folders  the folders with image files
    """

    root: Path
    others: tuple[str, ...]
    folders: tuple[str, ...]
    top: str = ""
    packed: bool = False

    @classmethod
    def of(cls, root: Path) -> Tree:
        """Of a folder or an archive; DataError for one that cannot be listed. Links to folders are followed near the top.

        Folder by folder, as there may be millions of images: their names are listed again where they are asked for.
        """
        packed = is_archive(root) and not root.is_dir()
        others, folders = [], []
        ends: tuple[str, str] | None = None
        for folder in _folders(root, packed):
            if folder.names:
                ways = Folder(folder.parts, [folder.names[0], folder.names[-1]]).ways
                ends = (ends[0] if ends else ways[0], ways[1])
            images = image_names(folder.names)
            if images:
                folders.append("/".join(folder.parts))
            if len(images) < len(folder.names):
                known = set(images)
                others += [way for way, name in zip(folder.ways, folder.names, strict=True) if name not in known]
        top = _common_top(*ends) if ends else ""
        return cls(root, tuple(name[len(top) :] for name in others), tuple(way[len(top) :] for way in folders), top, packed)

    @cached_property
    def images(self) -> Texts:
        """The image files, in walking order."""
        start = len(self.top)
        folders = (Folder(folder.parts, image_names(folder.names)) for folder in _folders(self.root, self.packed))
        return Texts.of(way[start:] for folder in folders for way in folder.ways)

    def ref(self, name: str) -> ImageRef:
        """Where a file is; a way that leads elsewhere on the disk is one as well."""
        return ImageRef(str(self.root), member=self.top + name) if self.packed else ImageRef(str(self.root / (self.top + name)))

    def shown(self, name: str) -> str:
        """How a file is called in messages."""
        return str(self.ref(name))

    def read(self, name: str, max_bytes: int) -> bytes:
        """The bytes of a file; raises ImageError, which says why not."""
        return read_bytes(self.ref(name), Limits(max_bytes=max_bytes))

    def text(self, name: str, max_bytes: int) -> str:
        """What a file of text in UTF-8 says, without a byte order mark; raises ImageError, which says why not."""
        data = self.read(name, max_bytes)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
            raise ImageError(self.shown(name), "is text in UTF-16, not in UTF-8" if wide else "is not text in UTF-8") from error
        if "\0" in text:
            raise ImageError(self.shown(name), "is not text in UTF-8")
        return text

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset((*self.images, *self.others))

    def of_kind(self, *suffixes: str) -> list[str]:
        """The files, none of images, with one of the suffixes, in lower case, in folders that only say a split or their kind."""
        return [name for name in self.others if name.lower().endswith(suffixes) and is_laid_out(name)]


def _folders(root: Path, packed: bool) -> Iterator[Folder]:
    """The folders of a place with all their files that are not hidden, in walking order."""
    if not packed:
        return folders_on_disk(root, lambda parts: len(parts) <= LINKS_DEPTH, shown_names)
    ways = (name.rpartition("/") for name in all_members(root))
    grouped = groupby(ways, lambda way: way[0])
    return (Folder(tuple(folder.split("/")) if folder else (), [way[2] for way in group]) for folder, group in grouped)


def _common_top(first: str, last: str) -> str:
    """The folders that all files lie in, with a slash, up to the first that says a split or what kind of file it holds.

    What the first and the last in walking order have in common all have.
    """
    top = ""
    while len(tops := {name[len(top) :].split("/")[0] for name in (first, last)}) == 1:
        (only,) = tops
        if first == f"{top}{only}" or only.lower() in ROLES or folder_split(only):
            break
        top += f"{only}/"
    return top


def folders_of(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")[:-1])


def stem_of(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def is_laid_out(name: str) -> bool:
    """Whether all folders on the way say a split or a kind of file: then it is no file beside the images of a class."""
    return all(folder.lower() in ROLES or folder_split(folder) for folder in folders_of(name))


def key_of(name: str) -> tuple[str, ...]:
    """What an image and its mask or annotations have in common: the way without folders for kinds, and without suffix."""
    return (*(folder for folder in folders_of(name) if folder.lower() not in ROLES), stem_of(name))


def folder_split(folder: str) -> str:
    """The split that a folder's name says, such as ``train`` or ``val2017``; "" for none."""
    return SPLIT_NAMES.get(re.sub(r"[\d_-]", "", folder.lower()), "")


def path_split(name: str) -> str:
    """The split that the folders on a file's way say; "" where none or several do."""
    return _only(folder_split(folder) for folder in folders_of(name))


def stem_split(name: str) -> str:
    """The split that the words of a file's name say, such as ``instances_train2017.json``; "" where none or several do."""
    return _only(SPLIT_NAMES.get(word, "") for word in re.findall("[a-z]+", stem_of(name).lower()))


def _only(splits: Iterable[str]) -> str:
    found = set(splits) - {""}
    return found.pop() if len(found) == 1 else ""
