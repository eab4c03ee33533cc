"""A clean copy of a data set: the same images under the same names, without metadata, with faces blurred beyond recognition."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline import console
from sightline.auditing.ahead import worked
from sightline.auditing.faces import Face
from sightline.auditing.metadata import FORMATS, is_animated, is_lossless, without_metadata
from sightline.data.decode import Header, decode_with_header, read_bytes
from sightline.data.formats import format_of
from sightline.data.limits import Limits
from sightline.data.listing import amount
from sightline.errors import ImageError, ResourceError, UsageError
from sightline.records import ImageRef

# How far around a face is blurred too, as a share of its box, and what is left: so many averages along its longer side. Of 150 faces of
# pedestrians the detector then finds none again; with a margin of 0.25 and 5 averages it finds 58.
MARGIN, CELLS = 0.4, 2
# For WebP, which does not tell how strongly it was compressed.
QUALITY = 90
# What makes a single name impossible, such as one that is also a folder's.
OWN_FAULTS = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)


@dataclass(frozen=True)
class Cleaned:
    """What was written.

    folder     where the copy lies
    images     how many there are in it
    blurred    name -> faces blurred in it
    renamed    name -> name in the copy, of images in other formats, which became PNG files of 8 bits
    left_out   (name, reason) of images that are not in the copy
    """

    folder: Path
    images: int
    blurred: dict[str, int]
    renamed: dict[str, str]
    left_out: list[tuple[str, str]]

    @classmethod
    def of(cls, folder: Path, images: Sequence[_Written]) -> Cleaned:
        """From what became of each image."""
        done = [image for image in images if not image.reason]
        return cls(
            folder=folder,
            images=len(done),
            blurred={image.name: image.faces for image in done if image.faces},
            renamed={image.name: image.place for image in done if image.place != image.name},
            left_out=[(image.name, image.reason) for image in images if image.reason],
        )

    def announce(self) -> None:
        """Say it, a line each."""
        for name, reason in self.left_out:
            console.warn(f"{name}: {reason}; not in the clean copy.")
        if self.renamed:
            name, new = next(iter(self.renamed.items()))
            console.say(f"{amount(list(self.renamed), 'image')} became PNG files of 8 bits, of the first page only: {name} is now {new}.")
        faces = f", with {sum(self.blurred.values())} faces blurred in {len(self.blurred)} of them" if self.blurred else ""
        console.say(f"{self.folder}: holds a clean copy of {self.images} images{faces}.")


class _Written(NamedTuple):
    """What became of an image: its name in the copy, or the reason why it is not there."""

    name: str
    place: str = ""
    reason: str = ""
    faces: int = 0


def write_clean(
    refs: Mapping[str, ImageRef],
    folder: str | Path,
    *,
    strip_metadata: bool,
    faces: Mapping[str, Sequence[Face]] | None,
    limits: Limits = Limits(),
) -> Cleaned:
    """Copy the images, each name being its way in the new folder, and tell what became of them.

    strip_metadata  nothing but the picture and its colour profile is left. JPEG, PNG and WebP files keep every pixel as it was;
                    other formats become PNG files of 8 bits
    faces           as ``find_faces`` gives them, by name: images with faces are decoded, the faces blurred, and saved in their format
                    without metadata, JPEG at the quality it had. An image without an entry was not looked at and is left out, and of
                    films and many pages only the first picture was, so that only this is copied. None leaves faces alone

    Raises UsageError for a folder that is not empty, before anything is written, and ResourceError when it cannot be written to.
    """
    folder = Path(folder)
    _make(folder)
    stems = Counter(_stem(name).casefold() for name in refs)

    def write(name: str) -> _Written:
        found = None if faces is None else faces.get(name)
        try:
            data = _read(refs[name], name, limits, looked_at=faces is None or found is not None)
            copy = _copied(data, name, strip_metadata, found, limits)
            as_it_was = format_of(data) in FORMATS
            # Images of one name in several formats keep theirs apart.
            place = name if as_it_was else f"{_stem(name) if stems[_stem(name).casefold()] == 1 else name}.png"
            _write(folder / place, copy, name)
        except ImageError as error:
            return _Written(name, reason=error.reason)
        return _Written(name, place, faces=len(found or ()))

    return Cleaned.of(folder, list(console.track(worked(write, refs), len(refs), "Writing the clean copy")))


def _read(ref: ImageRef, name: str, limits: Limits, *, looked_at: bool) -> bytes:
    """The bytes of a file that may be copied, which one that was not looked at for faces may not."""
    _check(name, ref)
    data = read_bytes(ref, limits)
    if not looked_at:
        decode_with_header(data, name, limits=limits)  # says why not
        raise ImageError(name, "was not looked at for faces")
    return data


def _copied(data: bytes, name: str, strip_metadata: bool, faces: Sequence[Face] | None, limits: Limits) -> bytes:
    """The bytes of the copy of one file."""
    if format_of(data) in FORMATS and not faces and (faces is None or not is_animated(data, name)):
        if not strip_metadata:
            return data
        header, _ = decode_with_header(data, name, min_side=1, limits=limits)
        return without_metadata(data, header.orientation, name)
    header, pixels = decode_with_header(data, name, limits=limits)
    bands, several, _ = header.mode.partition(" x ")
    if several and int(bands) > 3:
        raise ImageError(name, f"has {bands} bands, more than a PNG file holds")
    return _encoded(blurred(pixels, faces or ()), header, data, name)


def blurred(pixels: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
    """The picture (h, w, 3) uint8 with faces, and what is around them, made of a few averages each, which nothing brings back."""
    picture = Image.fromarray(pixels)
    for face in faces:
        left, top, right, bottom = face.box
        across, down = MARGIN * (right - left), MARGIN * (bottom - top)
        box = (
            max(0, int(left - across)), max(0, int(top - down)),
            min(picture.width, int(right + across) + 1), min(picture.height, int(bottom + down) + 1),
        )  # fmt: skip
        part = picture.crop(box)
        scale = min(1.0, CELLS / max(part.size))
        few = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))), Image.Resampling.BOX)
        picture.paste(few.resize(part.size, Image.Resampling.BICUBIC), box)
    return np.asarray(picture)


def _encoded(pixels: NDArray[np.uint8], header: Header, data: bytes, name: str) -> bytes:
    """Pixels in the format of the file that they are from, or as PNG; grey ones as grey."""
    picture, sink = Image.fromarray(pixels[:, :, 0] if header.mode[0] in "L1I" else pixels), io.BytesIO()
    kind = format_of(data)
    if kind == "JPEG":
        picture.save(sink, "JPEG", quality=header.quality or QUALITY)
    elif kind == "WebP":
        picture.save(sink, "WEBP", quality=QUALITY, lossless=is_lossless(data, name))
    else:
        picture.save(sink, "PNG")
    return sink.getvalue()


def check_new(folder: Path) -> None:
    """UsageError for a folder that is there and holds something, or for a file; ResourceError where that cannot be seen."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise _not_made(folder, error) from error
    if taken:
        raise UsageError(f"{folder}: the clean copy goes into a new or empty folder, and this is not one; name another.")


def _make(folder: Path) -> None:
    check_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(folder, error) from error


def _not_made(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(f"{folder}: cannot be made ({error.strerror or error}); name another folder for the clean copy.")


def _check(name: str, ref: ImageRef) -> None:
    """Raise ImageError for a name that leads out of the folder, on any system, and for what is not a whole file."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not posix.name or posix.is_absolute() or windows.anchor or ".." in windows.parts or "\0" in name:
        raise ImageError(name, "its name leads out of the folder of the copy")
    if ref.frame or ref.window:
        raise ImageError(name, "is a part of a file, and only whole files are copied")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _write(path: Path, data: bytes, name: str) -> None:
    """Write under another name first, so that whatever has its own name is complete."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        if path.exists():  # where case does not matter, names can become one
            raise ImageError(name, f"another image is called {path.name} in the copy")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the first error is what matters
            temporary.unlink(missing_ok=True)
        if error.errno in OWN_FAULTS:
            raise ImageError(name, f"its name cannot be used in the copy ({error.strerror})") from error
        raise ResourceError(f"{path}: cannot be written ({error.strerror or error}); make room, or name another folder.") from error
