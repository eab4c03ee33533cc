"""All files of a place by their way from its top, alike for a folder on disk and for an archive; and what folders' names say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sightline.data.container import all_members, is_archive
from sightline.data.decode import Limits, read_bytes
from sightline.data.folder import SPLIT_NAMES
from sightline.data.listing import is_image_name, is_shown, names_on_disk
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

    images   the image files, as many as there may be
    others   all others, which may say what is on the images
    folders  the folders with image files
    """

    root: Path
    images: Texts
    others: tuple[str, ...]
    folders: tuple[str, ...]
    top: str = ""
    packed: bool = False

    @classmethod
    def of(cls, root: Path) -> Tree:
        """Of a folder or an archive; DataError for one that cannot be listed. Links to folders are followed near the top."""
        packed = is_archive(root) and not root.is_dir()
        names = Texts.of(all_members(root) if packed else names_on_disk(root, lambda parts: len(parts) <= LINKS_DEPTH, is_shown))
        top = _common_top(names)
        others: list[str] = []
        folders: dict[str, None] = {}

        def images() -> Iterator[str]:
            for name in names:
                if is_image_name(name):
                    name = name[len(top) :]
                    folders[name.rpartition("/")[0]] = None
                    yield name
                else:
                    others.append(name[len(top) :])

        return cls(root, Texts.of(images()), tuple(others), tuple(folders), top, packed)

    def ref(self, name: str) -> ImageRef:
        """Where a file is; a way that leads elsewhere on the disk is one as well."""
        return ImageRef(str(self.root), member=self.top + name) if self.packed else ImageRef(str(self.root / (self.top + name)))

    def shown(self, name: str) -> str:
        """How a file is called in messages."""
        return str(self.ref(name))

    def read(self, name: str, max_bytes: int) -> bytes:
        """The bytes of a file; raises ImageError, which says why not."""
        return read_bytes(self.ref(name), Limits(max_bytes=max_bytes))

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset((*self.images, *self.others))

    def of_kind(self, *suffixes: str) -> list[str]:
        """The files, none of images, with one of the suffixes, in lower case, in folders that only say a split or their kind."""
        return [name for name in self.others if name.lower().endswith(suffixes) and is_laid_out(name)]


def _common_top(names: Texts) -> str:
    """The folders that all files lie in, with a slash, up to the first that says a split or what kind of file it holds.

    The names are in walking order, so that what the first and the last have in common all have.
    """
    top = ""
    while names and len(tops := {name[len(top) :].split("/")[0] for name in (names[0], names[-1])}) == 1:
        (only,) = tops
        if names[0] == f"{top}{only}" or only.lower() in ROLES or folder_split(only):
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
