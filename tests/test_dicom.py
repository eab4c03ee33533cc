"""DICOM: levels as a viewer shows them, held against pydicom's own functions; every fault its own reason, and no patient anywhere."""

from __future__ import annotations

import io
import sys

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing, convert_color_space
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless, SecondaryCaptureImageStorage

from sightline.data.decode import Limits, decode, decode_with_header, pages, read_size
from sightline.data.reading import Reading
from sightline.errors import ImageError
from sightline.records import ImageRef

PATIENT = "DOE^JOHN"


def scan(levels: np.ndarray, *, bits: int | None = None, colours: str = "MONOCHROME2", **tags: object) -> FileDataset:
    """A data set with native pixels, (h, w), (frames, h, w) with NumberOfFrames, or (h, w, 3)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.PatientName = made.PatientID = made.PatientComments = PATIENT
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    made.SamplesPerPixel = 3 if levels.shape[-1] == 3 else 1
    made.Rows, made.Columns = levels.shape[-3:-1] if made.SamplesPerPixel == 3 else levels.shape[-2:]
    made.PhotometricInterpretation, made.PlanarConfiguration = colours, 0
    made.BitsAllocated = 8 * levels.dtype.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(levels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = levels.tobytes()
    made["PixelData"].VR = "OB" if levels.dtype.itemsize == 1 else "OW"
    return made


def bytes_of(dataset: FileDataset) -> bytes:
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, dataset, enforce_file_format=True)
    return sink.getvalue()


def shown(dataset: FileDataset, reading: Reading = Reading(), **options: object) -> np.ndarray:
    return decode(bytes_of(dataset), reading=reading, **options)


def grey(dataset: FileDataset, reading: Reading = Reading()) -> np.ndarray:
    found = shown(dataset, reading)
    assert (found == found[..., :1]).all()
    return found[..., 0]


def refusal(data: bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert "\n" not in caught.value.reason
    assert PATIENT not in str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, ModuleNotFoundError)
    return caught.value.reason


def twelve_bits(shape: tuple[int, ...] = (9, 14)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, shape, np.uint16)


def scaled(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((levels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


# ---- grey levels -----------------------------------------------------------------------------------------------------


def test_without_a_window_the_bits_in_use_are_the_range():
    levels = twelve_bits()
    np.testing.assert_array_equal(grey(scan(levels, bits=12)), scaled(levels, 0, 4095))
    np.testing.assert_array_equal(grey(scan(levels)), scaled(levels, 0, 65535))
    np.testing.assert_array_equal(grey(scan(levels.astype(np.uint8))), levels.astype(np.uint8))
    signed = levels.astype(np.int16) - 2048
    np.testing.assert_array_equal(grey(scan(signed, bits=12)), scaled(signed, -2048, 2047))


def test_unused_upper_bits_are_no_levels():
    levels = twelve_bits()
    np.testing.assert_array_equal(grey(scan(levels | 0xA000, bits=12)), scaled(levels, 0, 4095))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", None])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.5, 10)])
def test_the_files_first_window_is_applied_to_rescaled_levels(function, slope, intercept):
    tags = {"WindowCenter": [40, 300], "WindowWidth": [400, 2000], "RescaleSlope": slope, "RescaleIntercept": intercept}
    made = scan(twelve_bits(), bits=12, **tags, **({"VOILUTFunction": function} if function else {}))
    units = apply_modality_lut(made.pixel_array, made)
    windowed = apply_windowing(units, made)
    least, most = apply_modality_lut(np.array([0, 4095], np.uint16), made)
    assert np.abs(grey(made).astype(int) - 255 * (windowed - least) / (most - least)).max() <= 0.51


def test_a_stated_window_counts_instead_of_the_files_and_is_of_rescaled_levels():
    made = scan(twelve_bits(), bits=12, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-1024)
    units = twelve_bits().astype(int) - 1024
    np.testing.assert_array_equal(grey(made, Reading((-500, 1500))), scaled(units, -500, 1500))
    one = shown(made, Reading((-500, 1500), (1,)))
    np.testing.assert_array_equal(one[..., 0], scaled(units, -500, 1500))
    assert one.shape == (9, 14, 1)


def test_rescaling_moves_the_range_of_a_file_without_a_window():
    made = scan(twelve_bits(), bits=12, RescaleSlope=2, RescaleIntercept=-100)
    np.testing.assert_array_equal(grey(made), scaled(twelve_bits(), 0, 4095))


def test_monochrome1_is_inverted():
    made, window = scan(twelve_bits(), bits=12, colours="MONOCHROME1"), {"WindowCenter": 2000, "WindowWidth": 1001}
    np.testing.assert_array_equal(grey(made), 255 - scaled(twelve_bits(), 0, 4095))
    np.testing.assert_array_equal(grey(made, Reading((0, 2000))), 255 - scaled(twelve_bits(), 0, 2000))
    dark = scan(twelve_bits(), bits=12, colours="MONOCHROME1", **window)
    np.testing.assert_array_equal(grey(dark), 255 - grey(scan(twelve_bits(), bits=12, **window)))


def table(entries: np.ndarray, bits: int = 16) -> Dataset:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", [len(entries), 0, bits])
    made.add_new("LUTData", "US", entries.tolist())
    return made


def test_tables_of_levels_are_looked_up():
    entries = np.sqrt(np.arange(4096) / 4095)
    made = scan(twelve_bits(), bits=12, VOILUTSequence=[table((entries * 1023).astype(np.uint16), bits=10)])
    np.testing.assert_array_equal(grey(made), scaled(apply_voi(twelve_bits(), made), 0, 1023))
    modality = scan(twelve_bits(), bits=12, WindowCenter=30000, WindowWidth=20001)
    modality.ModalityLUTSequence = [table((entries * 65535).astype(np.uint16))]
    np.testing.assert_array_equal(grey(modality), scaled((entries * 65535).astype(np.uint16)[twelve_bits()], 19999.5, 39999.5))


def test_floats_are_scaled_from_their_own_range_unless_a_window_is_stated():
    levels = np.array([[-1.0, 0.0, 1.0, 3.0]], np.float32)
    made = scan(levels.view(np.uint32), bits=32)
    del made.PixelData
    made.FloatPixelData = levels.tobytes()
    assert grey(made).tolist() == [[0, 64, 128, 255]]
    assert grey(made, Reading((0, 2))).tolist() == [[0, 0, 128, 255]]


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_each_frame_is_read_with_its_own_levels(tmp_path):
    levels = twelve_bits((3, 9, 14))
    made = scan(levels, bits=12, NumberOfFrames=3)
    path = tmp_path / "cine.dcm"
    path.write_bytes(bytes_of(made))
    assert pages(ImageRef(str(path))) == 3
    assert read_size(ImageRef(str(path))) == (14, 9)
    for frame in range(3):
        np.testing.assert_array_equal(decode(ImageRef(str(path), frame=frame))[..., 0], scaled(levels[frame], 0, 4095))
    with pytest.raises(ImageError, match="there is no frame 3"):
        decode(ImageRef(str(path), frame=3))
    header, _ = decode_with_header(path.read_bytes(), "cine.dcm")
    assert header.note == "has 3 pages, of which this is the first"


def test_an_enhanced_file_says_its_levels_for_each_frame():
    levels = twelve_bits((2, 9, 14))
    made = scan(levels, bits=12, NumberOfFrames=2)
    groups = []
    for slope, centre in ((1, 1000), (2, 3000)):
        rescaling, voi, group = Dataset(), Dataset(), Dataset()
        rescaling.RescaleSlope, rescaling.RescaleIntercept, rescaling.RescaleType = slope, 0, "US"
        voi.WindowCenter, voi.WindowWidth = centre, 1001
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [rescaling], [voi]
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
    data = bytes_of(made)
    for frame, (slope, centre) in enumerate(((1, 1000), (2, 3000))):
        _, found = decode_with_header(data, "x.dcm", frame=frame)
        np.testing.assert_array_equal(found[..., 0], scaled(slope * levels[frame].astype(int), centre - 500.5, centre + 499.5))


# ---- colours and compression -----------------------------------------------------------------------------------------


def test_colours_become_rgb():
    colours = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    np.testing.assert_array_equal(shown(scan(colours, colours="RGB")), colours)
    np.testing.assert_array_equal(shown(scan(colours, colours="RGB"), Reading(bands=(3, 1))), colours[..., [2, 0]])
    full = scan(convert_color_space(colours, "RGB", "YBR_FULL"), colours="YBR_FULL")
    assert np.abs(shown(full).astype(int) - colours).max() <= 2


def test_a_palette_is_looked_up():
    made = scan(np.arange(4, dtype=np.uint8).reshape(1, 4), colours="PALETTE COLOR")
    for name, levels in (("Red", [0, 65535, 0, 257]), ("Green", [0, 0, 65535, 514]), ("Blue", [0, 0, 0, 771])):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", np.array(levels, "<u2").tobytes())
    assert shown(made).tolist() == [[[0, 0, 0], [255, 0, 0], [0, 255, 0], [1, 2, 3]]]


def encapsulated(levels: np.ndarray, content: bytes, syntax: str, **tags: object) -> FileDataset:
    made = scan(levels, **tags)
    made.PixelData = encapsulate([content])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    return made


def test_compressed_pixels_are_decoded_where_a_decoder_is_there():
    levels = twelve_bits()
    made = scan(levels, bits=12)
    made.compress(RLELossless)
    np.testing.assert_array_equal(grey(made), scaled(levels, 0, 4095))
    from PIL import Image

    sink = io.BytesIO()
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 6
    Image.fromarray(smooth).save(sink, "JPEG", quality=95)
    assert np.abs(grey(encapsulated(smooth, sink.getvalue(), JPEGBaseline8Bit)).astype(int) - smooth).max() <= 4


def test_pixels_that_nobody_here_can_decode_are_refused_in_words():
    lossless = refusal(bytes_of(encapsulated(twelve_bits(), b"\xff\xd8\xff\xd9", JPEGLosslessSV1)))
    assert lossless.startswith("its pixels are compressed as JPEG Lossless")
    assert lossless.endswith("which nothing installed here decodes; save it uncompressed")
    data = bytes_of(scan(twelve_bits())).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")
    assert "stored in an unknown way" in refusal(data)
    deflated = bytes_of(scan(twelve_bits())).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    assert refusal(deflated) == "is a deflated DICOM file, which is not read; save it uncompressed"


# ---- refusals, limits, patients --------------------------------------------------------------------------------------


def without(dataset: FileDataset, *names: str) -> bytes:
    for name in names:
        delattr(dataset, name)
    return bytes_of(dataset)


def test_each_fault_has_its_own_reason():
    levels = twelve_bits()
    assert refusal(without(scan(levels), "PixelData")).startswith("holds no pixels")
    assert refusal(without(scan(levels), "Rows")) == "damaged DICOM data (it does not state its size)"
    assert refusal(bytes_of(scan(levels, colours="HSV"))) == "its kind of colours is not one that DICOM defines for an image"
    short = scan(levels)
    short.PixelData = levels.tobytes()[:-20]
    assert refusal(bytes_of(short)) == "truncated DICOM data (at least 20 bytes are missing)"
    assert "damaged DICOM data" in refusal(bytes_of(encapsulated(levels, b"no image at all.", JPEG2000)))
    assert "DICOM" in refusal(bytes(128) + b"DICM")
    whole = bytes_of(scan(levels))
    assert "DICOM" in refusal(whole[: len(whole) - 150])
    assert refusal(whole[:-2]) in ("truncated DICOM data (at least 2 bytes are missing)", "damaged DICOM data (EOFError in its header)")


def test_limits_hold_before_pixels_are_read(monkeypatch):
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("pixels were read"))
    data = bytes_of(scan(twelve_bits(), Rows=60000, Columns=60000))
    assert refusal(data) == "declares 60000 x 60000 = 3,600 megapixels, the limit is 120"
    assert "megabytes" in refusal(data, limits=Limits(max_bytes=100))


def test_without_pydicom_it_is_named(monkeypatch):
    data = bytes_of(scan(twelve_bits()))
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert refusal(data) == "format DICOM needs pydicom: pip install 'sightline[dicom]'"


def test_no_patient_gets_into_facts(tmp_path):
    made = scan(twelve_bits(), bits=12, Manufacturer="ACME", ManufacturerModelName="Scan 1", StudyDate="20200101")
    header, _ = decode_with_header(bytes_of(made), "x.png")
    assert (header.format, header.mode, header.width, header.height) == ("DICOM", "MONOCHROME2", 14, 9)
    assert (header.camera, header.taken, header.note) == ("ACME Scan 1", None, "named .png but holds DICOM data")
    assert decode_with_header(bytes_of(made), "x.dcm")[0].note is None


def test_a_messages_cause_that_quotes_the_file_is_not_passed_on():
    data = bytes_of(scan(twelve_bits(), WindowCenter="4321", WindowWidth=400))
    broken = data.replace(b"4321", b"DOE^")
    assert broken != data
    assert refusal(broken) == "damaged DICOM data (ValueError in what it says of its levels)"


WHOLE = [
    bytes_of(scan(twelve_bits(), bits=12, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-1024)),
    bytes_of(scan(np.zeros((4, 4, 3), np.uint8), colours="YBR_FULL")),
]


@settings(max_examples=150)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=8), st.floats(0, 1))
def test_any_damage_gives_pixels_or_an_image_error_without_the_patient(whole, flips, share):
    data = bytearray(whole)
    for place, bits in flips:
        data[132 + int(place * (len(data) - 132))] ^= bits
    cut = bytes(data[: 132 + round(share * (len(data) - 132))])
    for damaged in (bytes(data), cut):
        try:
            assert decode(damaged).dtype == np.uint8
        except ImageError as error:
            assert "DOE" not in str(error)  # noqa: PT017
