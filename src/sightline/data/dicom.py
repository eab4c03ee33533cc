"""DICOM files through pydicom: the levels a viewer shows, after part 3 of the standard (C.7.6.3, C.11.1, C.11.2).

A file may be full of what is known of a patient. So nothing of it but sizes, the kind of colours and the maker of the machine leaves
this room: a library's message, which may quote any value, is never passed on.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.limits import Limits
from sightline.data.reading import Reading, channels_of
from sightline.errors import ImageError

# It is unpacked while its header is read, to whatever size it may have.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class Scan:
    """A file's header, sound enough to read a frame's pixels; ``colours`` is the standard's PhotometricInterpretation."""

    dataset: Any
    name: str
    width: int
    height: int
    frames: int
    colours: str
    camera: str | None

    def values(self, frame: int) -> NDArray[Any]:
        """The stored levels of a frame, (h, w) of grey and palettes, (h, w, 3) uint of colours converted to RGB; raises ImageError."""
        from pydicom.pixels import pixel_array

        if not 0 <= frame < self.frames:
            raise ImageError(self.name, f"there is no frame {frame}")
        self._check_decodable()
        try:
            values = np.asarray(pixel_array(self.dataset, index=frame))
        except Exception as error:  # a dozen types, of three libraries
            raise self._fault(error) from None
        if values.shape[:2] != (self.height, self.width) or values.ndim != 2 + (self.colours in _COLOURS[:-1]):
            raise ImageError(self.name, "damaged DICOM data (its pixels are not of the size it states)")
        return values

    def _check_decodable(self) -> None:
        from pydicom.pixels import get_decoder
        from pydicom.uid import UID

        syntax = UID(str(self.dataset.file_meta.get("TransferSyntaxUID", "")))
        try:
            decodable = get_decoder(syntax).is_available
        except NotImplementedError:
            decodable = False
        if not decodable:
            how = f"compressed as {syntax.name}" if syntax.name != syntax else "stored in an unknown way"
            raise ImageError(self.name, f"its pixels are {how}, which nothing installed here decodes; save it uncompressed")

    def _fault(self, error: Exception) -> ImageError:
        if isinstance(error, MemoryError):
            return ImageError(self.name, "there is not enough memory to decode it")
        if missing := self._missing_bytes():
            return ImageError(self.name, f"truncated DICOM data (at least {missing} bytes are missing)")
        return ImageError(self.name, f"damaged DICOM data ({type(error).__name__} in its pixels)")

    def _missing_bytes(self) -> int:
        if self.dataset.file_meta.TransferSyntaxUID.is_compressed:
            return 0
        held = next(len(self.dataset[name].value) for name in _PIXELS if name in self.dataset)
        bits = self.dataset.get("BitsAllocated", 8) * self.dataset.get("SamplesPerPixel", 1)
        return max(0, self.width * self.height * self.frames * bits // 8 - held)


def open_scan(data: bytes, name: str, limits: Limits) -> Scan:
    """A file's header, checked; no pixel is decoded. Raises ImageError."""
    limits.check_bytes(len(data), name)
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise ImageError(name, "format DICOM needs pydicom: pip install 'sightline[dicom]'") from error
    if _DEFLATED in data:
        raise ImageError(name, "is a deflated DICOM file, which is not read; save it uncompressed")
    try:
        dataset = dcmread(io.BytesIO(data))
        has_pixels = any(part in dataset for part in _PIXELS)
        width, height = int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
        frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
        colours = str(dataset.get("PhotometricInterpretation") or "")
        maker = " ".join(str(dataset.get(part) or "").strip() for part in ("Manufacturer", "ManufacturerModelName")).strip()
    except Exception as error:  # a dozen types, whose messages may quote the file
        raise ImageError(name, f"damaged DICOM data ({type(error).__name__} in its header)") from None
    if not has_pixels:
        raise ImageError(name, "holds no pixels: a DICOM file of another kind, such as a report, or a truncated one")
    if min(width, height, frames) < 1:
        raise ImageError(name, "damaged DICOM data (it does not state its size)")
    if colours not in (*_GREYS, *_COLOURS) or samples != (3 if colours in _COLOURS[:-1] else 1):
        raise ImageError(name, "its kind of colours is not one that DICOM defines for an image")
    limits.check_pixels(width, height, name, samples)
    return Scan(dataset, name, width, height, frames, colours, "".join(filter(str.isprintable, maker)) or None)


def read_scan(scan: Scan, frame: int, reading: Reading) -> NDArray[np.uint8]:
    """The channels that are read of a frame, (h, w, c) uint8; raises ImageError.

    Grey levels are those of the modality (such as Hounsfield units). They are cut to the stated window, else to the file's first one,
    else to the range of the bits it uses. MONOCHROME1, in which low levels are bright, is inverted.
    """
    values = scan.values(frame)
    try:
        if scan.colours not in _GREYS:
            return _colour(values, scan, reading)
        grey = _grey(values, scan, frame, reading)
    except ImageError:
        raise
    except Exception as error:  # a table, slope or window that makes no sense
        raise ImageError(scan.name, f"damaged DICOM data ({type(error).__name__} in what it says of its levels)") from None
    return 255 - grey if scan.colours == "MONOCHROME1" else grey


def _colour(values: NDArray[Any], scan: Scan, reading: Reading) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_color_lut

    if scan.colours == "PALETTE COLOR":
        return channels_of(np.asarray(apply_color_lut(values, scan.dataset))[:, :, :3], reading, scan.name)
    return channels_of(values, reading, scan.name, 2 ** int(scan.dataset.BitsStored) - 1)


def _grey(values: NDArray[Any], scan: Scan, frame: int, reading: Reading) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_modality_lut, apply_voi

    ends = None
    if values.dtype.kind in "ui":
        values, ends = _stored_bits(values, int(scan.dataset.BitsStored))
    rescaling, voi = (_for_frame(scan.dataset, part, frame) for part in ("PixelValueTransformationSequence", "FrameVOILUTSequence"))
    levels = np.asarray(apply_modality_lut(values, rescaling))
    window = reading.window or _window(voi)
    if window is None and "VOILUTSequence" in voi and levels.dtype.kind in "ui":
        levels = np.asarray(apply_voi(levels, voi))
        ends = np.array([0, 2 ** int(voi.VOILUTSequence[0].LUTDescriptor[2]) - 1])
    elif window is None and ends is not None:
        ends = np.asarray(apply_modality_lut(ends, rescaling))
    if window is None and ends is not None:
        window = float(ends.min()), float(ends.max())
    # 8 bits too are cut to a window here: it belongs to DICOM's way of showing any level.
    deep = levels.astype(np.int16) if levels.dtype == np.uint8 else levels
    return channels_of(deep[:, :, None], Reading(window, reading.bands), scan.name)


def _stored_bits(values: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The levels without what older files keep in their unused upper bits, and the lowest and highest level there can be."""
    unused = 8 * values.dtype.itemsize - bits
    if unused < 0:
        raise ValueError("it uses more bits than it has")
    lowest = -(2 ** (bits - 1)) if values.dtype.kind == "i" else 0
    return values << unused >> unused, np.array([lowest, lowest + 2**bits - 1], values.dtype)


def _for_frame(dataset: Any, sequence: str, frame: int) -> Any:
    """The data set that says how levels are shown: a multi-frame file's item for the frame or for all, else the file itself."""
    groups = [dataset.PerFrameFunctionalGroupsSequence[frame]] if "PerFrameFunctionalGroupsSequence" in dataset else []
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    return next((group[sequence].value[0] for group in groups if group.get(sequence)), dataset)


def _window(voi: Any) -> tuple[float, float] | None:
    """The first window stated, as the levels that become black and white; of a sigmoid one, its straight middle."""
    centre, width = (_first(voi.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not width > 0:
        return None
    if str(voi.get("VOILUTFunction") or "LINEAR") == "LINEAR" and width > 1:
        centre, width = centre - 0.5, width - 1
    return centre - width / 2, centre + width / 2


def _first(value: Any) -> float | None:
    several = isinstance(value, list | tuple) or hasattr(value, "__iter__")
    first = next(iter(value), None) if several and not isinstance(value, str) else value
    return None if first in (None, "") else float(first)
