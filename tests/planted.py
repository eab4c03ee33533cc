"""Image files that say in every place what nobody may read in a clean copy."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
from PIL.ExifTags import GPS, IFD, Base

# Written into files wherever something can be written, so that all that is left of it is found.
SECRET = "Sekretkamera"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    rng = np.random.default_rng(len(mode))
    smooth = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).resize(size)
    return smooth.convert(mode)


def exif(orientation: int = 1) -> Image.Exif:
    written = Image.Exif()
    written[Base.Make], written[Base.Artist], written[Base.Orientation] = SECRET, SECRET, orientation
    written.get_ifd(IFD.Exif)[Base.UserComment] = SECRET.encode()
    written.get_ifd(IFD.GPSInfo).update({GPS.GPSLatitude: (48.0, 12.0, 30.0), GPS.GPSAreaInformation: SECRET.encode()})
    return written


def xmp() -> bytes:
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()


def jpeg(orientation: int = 1, mode: str = "RGB", **settings) -> bytes:
    """With EXIF, XMP, a comment, IPTC, a preview, thumbnails in JFIF, and a film behind the end."""
    sink, secret = io.BytesIO(), SECRET.encode()
    settings = {"quality": 80, "icc_profile": PROFILE if mode == "RGB" else None, **settings}
    picture(mode).save(sink, "JPEG", exif=exif(orientation), comment=SECRET, xmp=xmp(), **settings)
    data = sink.getvalue()
    segments = [(0xED, b"Photoshop 3.0\0" + secret), (0xE2, b"FPXR\0" + secret), (0xE5, secret), (0xE0, b"JFXX\0\x10" + secret)]
    added = b"".join(struct.pack(">BBH", 0xFF, code, len(content) + 2) + content for code, content in segments)
    if data[2:4] == b"\xff\xe0":
        end = 4 + int.from_bytes(data[4:6])
        thumbnail = b"\4\1" + secret
        data = data[:4] + struct.pack(">H", 16 + 12) + data[6:18] + thumbnail + data[end:]
        end += 12
        return data[:end] + added + data[end:] + b"ftypmp4" + secret
    return data[:2] + added + data[2:] + b"ftypmp4" + secret


def png(orientation: int = 1, mode: str = "RGB", **settings) -> bytes:
    """With EXIF, text of all three kinds, a time, and a chunk that nobody knows."""
    sink, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("Author", SECRET)
    text.add_text("Comment", SECRET * 20, zip=True)
    text.add_itxt("XML:com.adobe.xmp", xmp().decode())
    picture(mode).save(sink, "PNG", exif=exif(orientation), pnginfo=text, icc_profile=PROFILE, **settings)
    data = sink.getvalue()
    chunks = b""
    for kind, content in ((b"tIME", b"\x07\xe9\1\2\3\4\5"), (b"prVt", SECRET.encode())):
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunks + data[33:] + SECRET.encode()


def webp(orientation: int = 1, mode: str = "RGB", **settings) -> bytes:
    """With EXIF, XMP, and a chunk that nobody knows."""
    sink, content = io.BytesIO(), b"hide" + struct.pack("<I", len(SECRET)) + SECRET.encode()
    picture(mode).save(sink, "WEBP", exif=exif(orientation), xmp=xmp(), icc_profile=PROFILE, **settings)
    data = sink.getvalue() + content
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] + SECRET.encode()


MAKERS = {"a.jpg": jpeg, "a.png": png, "a.webp": webp}


# What Pillow tells of a picture's own: how it is stored, its colours, its film.
OF_THE_PICTURE = {
    *("icc_profile", "exif", "jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe", "adobe_transform", "progressive"),
    *(
        "progression",
        "transparency",
        "gamma",
        "srgb",
        "interlace",
        "loop",
        "background",
        "timestamp",
        "duration",
        "bbox",
        "blend",
        "disposal",
    ),
}


def assert_clean(data: bytes, orientation: int = 1) -> None:
    """Nothing planted is left, and EXIF holds no more than an orientation."""
    assert SECRET.encode() not in data
    image = Image.open(io.BytesIO(data))
    image.load()
    assert dict(image.getexif()) == ({0x112: orientation} if orientation != 1 else {})
    assert not set(image.info) - OF_THE_PICTURE
