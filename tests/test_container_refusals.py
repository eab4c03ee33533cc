"""container: members and archives that are refused, each in a sentence, and whatever else may be wrong with them."""

from __future__ import annotations

import os
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packed_archives import MANY, PACKINGS, fault, refusal, write, write_tar, write_zip
from sightline.data.container import member_size, members, read_member
from sightline.errors import DataError, ImageError


@pytest.fixture(params=PACKINGS)
def packed(request, tmp_path):
    """Writes an archive of each kind."""
    return lambda content: write(tmp_path / request.param, content)


# ---- members that are refused ----------------------------------------------------------------------------------------


def test_a_member_that_is_not_there_and_an_archive_that_is_not_there(packed, tmp_path):
    assert fault(packed({"a/1.png": b""}), "a/2.png") == "the archive has no such member"
    assert fault(tmp_path / "absent.zip", "a/1.png") == "there is no such archive"
    assert fault(tmp_path, "a/1.png") == "is not a file, so it cannot be read as an archive"
    with pytest.raises(ImageError, match="no such member"):
        member_size(str(packed({"a/1.png": b""})), "a/2.png")


def test_more_bytes_than_the_limit_are_refused_before_they_are_unpacked(packed):
    path = packed({"a/bomb.png": bytes(3_000_000), "a/1.png": b"good"})
    assert fault(path, "a/bomb.png", 1_000_000) == "holds 3 megabytes, the limit is 1"
    assert read_member(str(path), "a/1.png", 1_000_000) == b"good"


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize(
    ("stated", "verdict"), [(10, "is damaged (it unpacks to more than the 10 bytes"), (4_000_000, "unpacks to less than the 4,000,000")]
)
def test_a_member_that_lies_about_its_size(tmp_path, packing, stated, verdict):
    path = write_zip(tmp_path / "x.zip", {"a/bomb.png": bytes(3_000_000), "a/2.png": b"good"}, packing)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 3_000_000), struct.pack("<I", stated)))
    assert verdict in fault(path, "a/bomb.png", 5_000_000)
    assert read_member(str(path), "a/2.png", MANY) == b"good"


def test_an_encrypted_member(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a/1.png": b"secret", "a/2.png": b"good"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert members(path) == ["a/1.png", "a/2.png"]
    assert fault(path, "a/1.png") == "is encrypted: pack it without a password"
    assert read_member(str(path), "a/2.png", MANY) == b"good"


def test_a_packing_that_is_not_supported(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a/1.png": b"x"}, zipfile.ZIP_LZMA)
    assert "method 14, which is not supported: pack it again" in fault(path, "a/1.png")


@pytest.mark.parametrize("name", ["stored.zip", "deflated.zip", "bzip2.zip"])
def test_a_damaged_member_loses_no_other(tmp_path, name):
    good = os.urandom(500)
    path = write(tmp_path / name, {"a/1.png": os.urandom(500), "a/2.png": good})
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    assert "damaged" in fault(path, "a/1.png")
    assert read_member(str(path), "a/2.png", MANY) == good


def test_a_member_whose_header_is_not_where_it_should_be(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a/1.png": b"x", "a/2.png": b"good"})
    path.write_bytes(path.read_bytes().replace(b"PK\3\4", b"XX\3\4", 1))
    assert fault(path, "a/1.png").startswith("has no header where the archive says")
    assert read_member(str(path), "a/2.png", MANY) == b"good"


# ---- archives that are refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.bz2", "tar.xz", "tar"])
def test_a_compressed_tar(tmp_path, suffix):
    path = write_tar(tmp_path / f"x.{suffix}", {"a/1.png": b"x"}, "w:xz" if suffix == "tar.xz" else "w:bz2" if "bz2" in suffix else "w:gz")
    assert refusal(path) == "is a compressed tar, which cannot be read in place; decompress it to .tar, or make it a .zip."
    assert fault(path, "a/1.png").startswith("is a compressed tar")


def test_a_tar_that_begins_like_a_compressed_one(tmp_path):
    assert members(write_tar(tmp_path / "x.tar", {"BZh/1.png": b"x"})) == ["BZh/1.png"]


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_file_that_is_no_archive(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"GIF89a" * 500)
    assert refusal(path) == f"is not a {'ZIP' if suffix == 'zip' else 'tar'} archive, whatever its name says."
    path.write_bytes(b"")
    assert refusal(path) == "is empty: copy or download it again."


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_an_archive_that_is_cut_short(tmp_path, name, share):
    path = write(tmp_path / name, {f"a/{number}.png": os.urandom(1000) for number in range(20)})
    end = path.stat().st_size if name.endswith(".zip") else 20 * 1536
    os.truncate(path, int(end * share))
    assert "cut short" in refusal(path) or "damaged" in refusal(path)
    assert "copy or download it again" in refusal(path)


def test_a_tar_that_is_cut_off_between_two_members(tmp_path):
    path = write_tar(tmp_path / "x.tar", {f"a/{number}.png": bytes(512) for number in range(9)})
    os.truncate(path, 3 * 1024)
    assert refusal(path) == "is damaged or cut short after 3,072 bytes: copy or download it again."


def test_a_tar_with_a_broken_header_does_not_lose_what_follows_in_silence(tmp_path):
    path = write_tar(tmp_path / "x.tar", {f"a/{number}.png": bytes(512) for number in range(9)})
    data = bytearray(path.read_bytes())
    data[3 * 1024] ^= 0xFF
    path.write_bytes(data)
    assert refusal(path).startswith("is damaged or cut short after 3,072 bytes")


def test_a_tar_whose_sizes_lead_back_comes_to_an_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a/1.png": b"x" * 600, "a/2.png": b"y" * 600})
    data = bytearray(path.read_bytes())
    header = data[1536 : 1536 + 512]
    header[124:136] = b"\xff" * 8 + (-1536).to_bytes(4, "big", signed=True)  # the second member's size, below zero
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[1536 : 1536 + 512] = header
    path.write_bytes(data)
    assert "damaged" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    assert refusal(tmp_path / "x.zip") == "is not a file, so it cannot be read as an archive."


@pytest.mark.parametrize("name", PACKINGS)
@given(data=st.data())
def test_whatever_is_changed_gives_bytes_or_one_of_the_two_errors(tmp_path_factory, name, data):
    path = write(tmp_path_factory.mktemp("changed") / name, {"a/1.png": b"abc" * 40, "a/2.png": bytes(70), "b/3.png": b"x"})
    content = bytearray(path.read_bytes())[: 6 * 512]
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)):
        content[place] = byte
    path.write_bytes(content if name.endswith(".zip") else content + bytes(2048))
    try:
        found = members(path)
    except DataError:
        return
    for member in found:
        with suppress(ImageError):
            assert len(read_member(str(path), member, 10_000)) <= 10_000
