"""Readings: stated levels and bands of deep and many-banded files, held against the arrays that were written."""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.data.decode import Limits, decode, decode_with_header, pages, read_size
from sightline.data.reading import Reading, eight_bits
from sightline.errors import ConfigError, ImageError, ModelFileError
from sightline.records import ImageRef

XRAY = Reading(window=(0, 4095))


def bands_of(count: int, dtype: type = np.uint8, height: int = 12, width: int = 20) -> np.ndarray:
    """Random levels (h, w, count), for whole numbers over their whole range."""
    rng = np.random.default_rng(count)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-1, 3, (height, width, count)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (height, width, count), dtype, endpoint=True)


def tiff_of(levels: np.ndarray, *, planar: bool = False, photometric: str = "minisblack", **options: object) -> bytes:
    """A TIFF of levels (h, w, bands), chunky or with a plane for each band."""
    sink = io.BytesIO()
    if levels.shape[2] == 1:
        levels = levels[:, :, 0]
    else:
        options["planarconfig"] = "separate" if planar else "contig"
        levels = np.moveaxis(levels, -1, 0) if planar else levels
    tifffile.imwrite(sink, levels, photometric=photometric, **options)
    return sink.getvalue()


def by_window(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((levels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def refusal(source: object, reading: Reading, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, reading=reading, **options)
    assert "\n" not in caught.value.reason
    return caught.value.reason


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_a_window_becomes_black_and_white_and_what_lies_beyond_is_clipped():
    levels = np.array([[0, 1, 2047, 2048, 4095, 60000]], np.uint16)
    expected = [[[grey] * 3 for grey in (0, 0, 127, 128, 255, 255)]]
    for format in ("TIFF", "PNG"):
        sink = io.BytesIO()
        Image.fromarray(levels).save(sink, format)
        assert decode(sink.getvalue(), reading=XRAY).tolist() == expected
        assert decode(sink.getvalue(), reading=Reading((0, 4095), (1,)))[..., 0].tolist() == [[row[0] for row in expected[0]]]
    assert decode(levels, reading=XRAY).tolist() == expected
    assert decode(Image.fromarray(levels), reading=XRAY).tolist() == expected


def test_a_window_may_be_of_floats_and_below_zero():
    levels = np.array([[-2.0, -1.0, 0.0, 1.0, np.nan, np.inf]], np.float32)
    found = decode(tiff_of(levels[..., None]), reading=Reading((-1, 1), (1,)))
    assert found[..., 0].tolist() == [[0, 0, 128, 255, 0, 255]]


def test_eight_bits_stay_as_they_are_under_a_window():
    levels = bands_of(3)
    np.testing.assert_array_equal(decode(levels, reading=Reading((0, 100))), levels)
    np.testing.assert_array_equal(decode(tiff_of(levels, photometric="rgb"), reading=Reading((0, 100))), levels)


@given(st.integers(-70_000, 70_000), st.integers(1, 70_000))
def test_a_window_is_the_same_for_every_kind_of_number(low, width):
    levels = np.linspace(0, 65535, 77).astype(np.uint16)
    window = (float(low), float(low + width))
    expected = by_window(levels, *window)
    for kind in (np.uint16, np.int32, np.uint32, np.float64):
        np.testing.assert_allclose(eight_bits(levels.astype(kind), window).astype(int), expected, atol=1)


@pytest.mark.parametrize(("highest", "most"), [(4095, 4095), (4000, 4095), (65535, 65535), (40000, 65535), (200, 65535)])
def test_bits_that_a_tiff_says_it_uses_set_its_scale(highest, most):
    levels = np.array([[0, 2048, 4000, 4095]], np.uint16)
    data = tiff_of(levels[..., None], extratags=[(281, "H", 1, highest, True)])
    np.testing.assert_array_equal(decode(data)[..., 0], by_window(levels, 0, most))
    colour = tiff_of(np.stack([levels] * 3, -1), photometric="rgb", extratags=[(281, "H", 3, (highest,) * 3, True)])
    assert np.abs(decode(colour)[..., 0].astype(int) - by_window(levels, 0, most)).max() <= 1  # Pillow drops bits, and does not round


def test_levels_above_what_a_tiff_says_it_uses_prove_it_wrong():
    levels = np.array([[0, 32768, 65535]], np.uint16)
    assert decode(tiff_of(levels[..., None], extratags=[(281, "H", 1, 4095, True)]))[0, :, 0].tolist() == [0, 128, 255]


def twelve_bits(levels: np.ndarray, order: str) -> bytes:
    """A TIFF of 12 bits a value, packed as TIFF 6.0 says: bits in order, rows filled up to bytes."""
    rows = ["".join(f"{level:012b}" for level in row) for row in levels.tolist()]
    pixels = b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8)) for row in rows)
    height, width = levels.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(pixels)}
    pixels += b"\0" * (len(pixels) % 2)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8 + len(pixels))
    return start + pixels + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4


def test_twelve_bits_a_value_are_decoded_or_refused_in_words():
    levels = np.random.default_rng(0).integers(0, 4096, (5, 7))
    np.testing.assert_array_equal(decode(twelve_bits(levels, "<"))[..., 0], by_window(levels, 0, 4095))
    np.testing.assert_array_equal(decode(twelve_bits(levels, "<"), reading=Reading((0, 2000)))[..., 0], by_window(levels, 0, 2000))
    assert refusal(twelve_bits(levels, ">"), Reading()).startswith("12 bits a value are read only with imagecodecs")


def test_files_whose_levels_pillow_reduces_are_refused_for_a_window():
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header, rows = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(b"\0" + b"\x12\x34" * 3))
    colour = b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")
    assert decode(colour).tolist() == [[[0x12] * 3]]
    for data in (colour, b"P2 1 1 4095 100\n", b"P6 1 1 4095\n" + bytes(6)):
        assert refusal(data, XRAY).endswith("save it as TIFF")


# ---- bands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 16])
def test_bands_of_eight_bits_come_in_the_order_asked(count, planar):
    levels = bands_of(count)
    order = tuple(int(band) for band in np.random.default_rng(0).permutation(count) + 1)
    for photometric in ("minisblack", "rgb") if count >= 3 else ("minisblack",):
        found = decode(tiff_of(levels, planar=planar, photometric=photometric), reading=Reading(bands=order))
        np.testing.assert_array_equal(found, levels[:, :, [band - 1 for band in order]])
        assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize(("count", "planar"), [(1, False), (2, True), (3, False), (3, True), (4, False), (5, True)])
def test_bands_of_any_depth_are_cut_to_the_window(dtype, count, planar):
    levels = bands_of(count, dtype)
    low, high = (float(np.quantile(levels, share)) for share in (0.1, 0.8))
    found = decode(tiff_of(levels, planar=planar), reading=Reading((low, high), tuple(range(count, 0, -1))))
    assert np.abs(found.astype(int) - by_window(levels, low, high)[:, :, ::-1]).max() <= 1


def test_sixteen_bits_in_colour_keep_their_lower_bits_where_a_window_asks_for_them():
    levels = np.arange(12 * 20 * 3, dtype=np.uint16).reshape(12, 20, 3)
    np.testing.assert_array_equal(decode(tiff_of(levels, photometric="rgb"), reading=Reading((0, 719))), by_window(levels, 0, 719))


def test_without_stated_bands_the_first_three_are_shown_and_it_is_said():
    levels = bands_of(5, np.uint16)
    header, pixels = decode_with_header(tiff_of(levels), "field.tif")
    np.testing.assert_array_equal(pixels, eight_bits(levels[:, :, :3]))
    assert (header.format, header.mode, header.width, header.height) == ("TIFF", "5 x 16 bits", 20, 12)
    assert header.note == "has 5 bands, of which the first three are shown; state which with bands"
    two = bands_of(2, np.uint16)
    np.testing.assert_array_equal(decode(tiff_of(two)), np.repeat(eight_bits(two[:, :, :1]), 3, axis=2))


def test_bands_of_other_formats_are_taken_as_stored():
    image = Image.fromarray(bands_of(4), "RGBA")
    for format in ("PNG", "TIFF"):
        sink = io.BytesIO()
        image.save(sink, format)
        np.testing.assert_array_equal(decode(sink.getvalue(), reading=Reading(bands=(4, 3, 2))), np.asarray(image)[..., [3, 2, 1]])
    grey = Image.fromarray(bands_of(1)[..., 0])
    assert decode(grey, reading=Reading(bands=(1,))).shape == (12, 20, 1)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert decode(palette, reading=Reading(bands=(3, 1)))[0, 0].tolist() == [50, 200]
    assert decode(Image.new("1", (4, 4), 1), reading=Reading(bands=(1,)))[0, 0].tolist() == [255]
    np.testing.assert_array_equal(decode(bands_of(6), reading=Reading(bands=(6,))), bands_of(6)[..., 5:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_upright(orientation):
    levels = bands_of(5)
    stored = {1: levels, 2: levels[:, ::-1], 3: levels[::-1, ::-1], 4: levels[::-1], 5: levels.transpose(1, 0, 2), 6: np.rot90(levels),
              7: np.rot90(levels.transpose(1, 0, 2), 2), 8: np.rot90(levels, -1)}[orientation]  # fmt: skip
    tags = {"extratags": [(274, "H", 1, orientation, True)]}
    header, found = decode_with_header(tiff_of(np.ascontiguousarray(stored), **tags), "x.tif", reading=Reading(bands=(1, 2, 3, 4, 5)))
    np.testing.assert_array_equal(found, levels)
    assert (header.height, header.width) == (12, 20)
    three = np.ascontiguousarray(stored[..., :3])
    np.testing.assert_array_equal(decode(tiff_of(three, photometric="rgb", **tags), reading=Reading(bands=(1, 2, 3))), levels[..., :3])


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)},
                                     {"bigtiff": True}, {"byteorder": ">"}, {"rowsperstrip": 5, "compression": "zlib"}])  # fmt: skip
def test_the_ways_in_which_tiff_is_written(options):
    levels = bands_of(5, np.uint16)
    np.testing.assert_array_equal(decode(tiff_of(levels, **options), reading=Reading(bands=(5, 1))), eight_bits(levels[..., [4, 0]]))


def test_a_window_of_the_reference_is_cut_from_all_bands(tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(tiff_of(bands_of(5)))
    found = decode(ImageRef(str(path), window=(3, 2, 10, 9)), reading=Reading(bands=(5, 4)))
    np.testing.assert_array_equal(found, bands_of(5)[2:9, 3:10, [4, 3]])
    assert read_size(ImageRef(str(path))) == (20, 12)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_an_image_with_fewer_bands_says_how_many_it_has():
    grey = Image.fromarray(bands_of(1)[..., 0])
    assert refusal(grey, Reading(bands=(1, 2))) == "has 1 band, and bands 1, 2 are asked for"
    assert refusal(tiff_of(bands_of(5)), Reading(bands=(6,))) == "has 5 bands, and bands 6 are asked for"


def test_without_tifffile_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert refusal(tiff_of(bands_of(5)), Reading()) == "TIFF with 5 bands of 8 bits needs tifffile: pip install 'sightline[tiff]'"
    assert decode(tiff_of(bands_of(1)), reading=Reading(bands=(1,))).shape == (12, 20, 1)


def test_limits_hold_before_pixels_are_read(monkeypatch):
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda *_, **__: pytest.fail("pixels were read"))
    data = tiff_of(bands_of(5))
    assert refusal(data, Reading(), limits=Limits(max_pixels=239)) == "declares 20 x 12 = 0.00024 megapixels, the limit is 0.000239"
    many = refusal(data, Reading(), limits=Limits(max_pixels=250))
    assert many == "declares 20 x 12 x 5 bands = 0.0012 million values, the limit is 0.001"
    assert "megabytes" in refusal(data, Reading(), limits=Limits(max_bytes=100))
    tiles = tiff_of(bands_of(5), tile=(32, 32))
    assert refusal(tiles, Reading(), limits=Limits(max_pixels=900)) == "declares 32 x 32 = 0.001024 megapixels, the limit is 0.0009"


def test_a_file_that_unpacks_to_more_than_it_declares_is_refused():
    levels = np.zeros((4, 4, 5), np.uint8)
    small, bomb = zlib.compress(levels.tobytes()), zlib.compress(bytes(10_000_000))
    data = tiff_of(levels, compression="zlib")
    assert decode(data).shape == (4, 4, 3)
    place = data.index(small)
    swollen = data[:place] + small + data[place + len(small) :] + bomb
    changed = swollen.replace(struct.pack("<HHII", 273, 4, 1, place), struct.pack("<HHII", 273, 4, 1, len(data)))
    counts = [struct.pack(f"<HHI{kind}", 279, code, 1, len(small)).ljust(12, b"\0") for kind, code in (("H", 3), ("I", 4))]
    for count in counts:
        changed = changed.replace(count, struct.pack("<HHII", 279, 4, 1, len(bomb)))
    assert changed != swollen
    assert refusal(changed, Reading()) == "damaged TIFF data (it unpacks to more than its header declares)"


def test_what_is_cut_off_or_needs_more_libraries_is_said():
    data = tiff_of(bands_of(5))
    assert refusal(data[:-100], Reading()) == "truncated TIFF data (at least 100 bytes are missing)"
    packed = data.replace(struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, 5))
    assert packed != data
    assert refusal(packed, Reading()) == "LZW is read only with imagecodecs: pip install imagecodecs, or save the file uncompressed"


@given(st.binary(min_size=1, max_size=8), st.integers(0, 400), st.booleans())
def test_any_damage_gives_pixels_or_an_image_error(noise, place, compressed):
    whole = tiff_of(bands_of(5, np.uint16), **({"compression": "zlib"} if compressed else {}))
    data = whole[:place] + noise + whole[place + len(noise) :]
    for reading in (Reading(), Reading((0, 5), (4, 1))):
        try:
            found = decode(data, reading=reading)
        except ImageError:
            continue
        assert found.dtype == np.uint8
        assert found.shape[2] == reading.channels


# ---- pages -----------------------------------------------------------------------------------------------------------


def test_pages_are_counted_without_smaller_copies_and_each_is_a_frame(tmp_path):
    path = tmp_path / "stack.tif"
    scans = [bands_of(count, np.uint16) for count in (1, 5, 2)]
    with tifffile.TiffWriter(path) as writer:
        for number, scan in enumerate(scans):
            writer.write(scan if scan.shape[2] > 1 else scan[..., 0], photometric="minisblack", planarconfig="contig")
            if number == 0:
                writer.write(scan[::2, ::2, 0], photometric="minisblack", subfiletype=1)
    assert pages(ImageRef(str(path))) == 3
    for frame, scan in enumerate(scans):
        np.testing.assert_array_equal(decode(ImageRef(str(path), frame=frame), reading=Reading(bands=(1,))), eight_bits(scan[..., :1]))
    with pytest.raises(ImageError, match="there is no frame 3"):
        decode(ImageRef(str(path), frame=3))
    header, _ = decode_with_header(path.read_bytes(), "stack.tif")
    assert header.note == "has 3 pages, of which this is the first"
    assert decode_with_header(path.read_bytes(), "stack.tif", frame=2)[0].note is None


def test_other_files_have_one_page(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(path)
    assert pages(ImageRef(str(path))) == 1
    path.write_bytes(b"II*\0\xff\xff\xff\xff")
    assert pages(ImageRef(str(path))) == 1
    with pytest.raises(ImageError, match="no such file"):
        pages(ImageRef(str(tmp_path / "gone.tif")))


# ---- the value -------------------------------------------------------------------------------------------------------


def test_a_reading_survives_json_and_says_how_many_channels_it_gives():
    for reading, channels in ((Reading(), 3), (XRAY, 3), (Reading(bands=(4, 3, 2, 7)), 4), (Reading((-1.5, 2), (1,)), 1)):
        assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading
        assert reading.channels == channels
    assert Reading.from_json({}) == Reading()
    assert Reading.of(None, None) == Reading()
    assert Reading.of("0,4095", " 4, 3,2") == Reading((0, 4095), (4, 3, 2))


@pytest.mark.parametrize(
    ("window", "bands", "problems"),
    [("5,5", None, 1), ("0", None, 1), ("a,b", "0", 2), ("nan,1", "1.5", 2), ("", "", 2), (None, ",".join(["1"] * 17), 1),
     ("4095,0", "-1", 2), (None, "99999", 1)],
)  # fmt: skip
def test_nonsense_is_named_altogether(window, bands, problems):
    with pytest.raises(ConfigError) as caught:
        Reading.of(window, bands)
    assert len(caught.value.problems) == problems


@pytest.mark.parametrize(
    "fields", [{"window": [1, 0]}, {"window": [0]}, {"window": ["0", "1"]}, {"bands": [0]}, {"bands": []}, {"bands": [1.0]}]
)
def test_a_reading_of_another_version_is_refused(fields):
    with pytest.raises(ModelFileError, match="upgrade Sightline"):
        Reading.from_json(fields)
