"""container: archives are read in place, believed in nothing, and lose no more than what is bad in them."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.container import is_archive, member_size, members, read_member, stem
from sightline.data.listing import image_names, is_image_name, names_on_disk
from sightline.errors import DataError, ImageError

MANY = 1_000_000
PACKINGS = {
    "stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED, "bzip2.zip": zipfile.ZIP_BZIP2, "plain.tar": None,
}  # fmt: skip


def write_zip(path: Path, content: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)  # with a name that ``zipfile`` does not mend
            info.filename = info.orig_filename = name
            info.compress_type = packing
            archive.writestr(info, data)
    return path


def write_tar(path: Path, content: dict[str, bytes | tarfile.TarInfo], mode: str = "w", **options) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for name, data in content.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if isinstance(data, tarfile.TarInfo) else len(data)
            archive.addfile(info, io.BytesIO(b"" if isinstance(data, tarfile.TarInfo) else data))
    return path


def write(path: Path, content: dict[str, bytes]) -> Path:
    packing = PACKINGS[path.name]
    return write_tar(path, content) if packing is None else write_zip(path, content, packing)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refusal(path: Path) -> str:
    """Why an archive is refused, without its path."""
    with pytest.raises(DataError) as caught:
        members(path)
    text = str(caught.value)
    assert not isinstance(caught.value, ImageError)
    assert text.startswith(f"{path}: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def fault(path: Path, member: str, max_bytes: int = MANY) -> str:
    """Why a member is refused, without its name."""
    with pytest.raises(ImageError) as caught:
        read_member(str(path), member, max_bytes)
    assert caught.value.path == f"{path}!{member}"
    return caught.value.reason


@pytest.fixture(params=PACKINGS)
def packed(request, tmp_path):
    """Writes an archive of each kind."""
    return lambda content: write(tmp_path / request.param, content)


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_members_are_read_whole_and_one_by_one(packed):
    content = {"cat/1.png": b"one" * 1000, "cat/2.png": b"", "dog/1.png": bytes(range(256))}
    path = packed(content)
    assert members(path) == list(content)
    for name, data in content.items():
        assert read_member(str(path), name, MANY) == data
        assert member_size(str(path), name) == len(data)


def test_what_is_plainly_no_image_is_passed_over_without_a_word(packed, capsys):
    path = packed(dict.fromkeys(("b/1.png", "a.jpg", "b/Thumbs.db", ".git/1.png", "b/._1.png", "b/.x/1.png", "labels.json", "b/more.zip",
                                 "b/more.TAR", "README.md", "b/no_suffix"), b"x"))  # fmt: skip
    assert members(path) == ["a.jpg", "b/1.png", "b/no_suffix"]
    assert capsys.readouterr().err == ""


def test_names_are_brought_into_one_form(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"./cat//1.png": b"1", "./dog/./2.png": b"2"})
    assert members(path) == ["cat/1.png", "dog/2.png"]
    assert read_member(str(path), "dog/2.png", MANY) == b"2"


def test_an_archive_of_nothing_has_no_members(packed):
    assert members(packed({})) == []


NAMES = st.lists(st.text("ab.Z", min_size=1, max_size=3).filter(lambda name: name.strip(".")), min_size=1, max_size=4).map("/".join)


@given(names=st.sets(NAMES, max_size=8))
def test_a_tree_is_listed_alike_unpacked_and_packed(tmp_path_factory, names):
    names = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    folder = tmp_path_factory.mktemp("tree")
    for name in names:
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).touch()
    (folder / "data").mkdir(exist_ok=True)
    content = dict.fromkeys(sorted(names, reverse=True), b"")
    expected = list(names_on_disk(folder / "data"))
    assert members(write_zip(folder / "x.zip", content)) == expected
    assert members(write_tar(folder / "x.tar", content)) == expected


ODD_NAMES = ["1.jpg", "a.json", "b.TXT", "readme", "README.md", "x.readme", "Thumbs.db", "my.db", "desktop.ini", "x.ini", ".hidden.png",
             "license", "photo", "c.tar.gz", "..png", "d.jpg.json", "json"]  # fmt: skip


@given(st.lists(st.sampled_from(ODD_NAMES), unique=True))
def test_the_names_of_a_folder_are_sifted_as_each_of_them_is(names):
    assert image_names(names) == list(filter(is_image_name, names))


def test_folders_in_the_archive_are_no_members(tmp_path):
    assert members(write_zip(tmp_path / "x.zip", {"cat/": b"", "cat/1.png": b"x"})) == ["cat/1.png"]
    assert members(write_tar(tmp_path / "x.tar", {"cat": special("cat", tarfile.DIRTYPE), "cat/1.png": b"x"})) == ["cat/1.png"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_form_of_tar(tmp_path, form):
    content = {f"Käfer/{'x' * 90}.png": b"1", "猫/1.png": b"2"}
    path = write_tar(tmp_path / "x.tar", content, format=form)
    assert members(path) == sorted(content)
    assert {name: read_member(str(path), name, MANY) for name in content} == content


def test_names_in_utf8_that_do_not_say_so_are_understood_and_others_are_in_the_old_code_page(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"K__fer/1.png": b"1", "caf_/1.png": b"2"})
    path.write_bytes(path.read_bytes().replace(b"K__fer", "Käfer".encode()).replace(b"caf_", b"caf\x82"))
    assert members(path) == ["Käfer/1.png", "café/1.png"]
    assert read_member(str(path), "Käfer/1.png", MANY) == b"1"


def test_zip64(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("a/1.png", "w", force_zip64=True) as member:
        member.write(b"large")
    path = tmp_path / "x.zip"
    assert read_member(str(path), "a/1.png", MANY) == b"large"


def test_a_zip_that_was_written_to_a_pipe(tmp_path):
    """Its local headers do not know the sizes."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", b"streamed")
    (tmp_path / "x.zip").write_bytes(pipe.getvalue())
    assert read_member(str(tmp_path / "x.zip"), "a/1.png", MANY) == b"streamed"


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "a.tar", "a.b.Tar", "a.tgz", "a.tar.gz", "a.tar.bz2", "a.TAR.XZ", "a.tar.zst"])
def test_archives_are_known_by_their_suffix(name):
    assert is_archive(name)
    assert is_archive(Path("there") / name)
    assert stem(Path("there") / name) in ("a", "a.b")


@pytest.mark.parametrize("name", ["zip", "a.png", "a.zip.png", "a.gz", "tar", "a.zip/1.png", "a"])
def test_other_names_are_no_archives(name):
    assert not is_archive(name)
    assert stem(name) == Path(name).name


# ---- the index -------------------------------------------------------------------------------------------------------


def test_the_index_is_read_once_for_all_members_and_threads(tmp_path, monkeypatch):
    content = {f"a/{number:03d}.png": str(number).encode() * 50 for number in range(200)}
    path, opened, counted = write_zip(tmp_path / "x.zip", content), [], zipfile.ZipFile

    def counting(*arguments, **options):
        opened.append(arguments)
        return counted(*arguments, **options)

    monkeypatch.setattr(zipfile, "ZipFile", counting)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: read_member(str(path), name, MANY), content))
    assert found == list(content.values())
    assert len(opened) == 1


def test_an_archive_that_changed_is_read_anew(packed):
    path = packed({"a/1.png": b"old"})
    assert read_member(str(path), "a/1.png", MANY) == b"old"
    packed({"a/0.png": b"more", "a/1.png": b"new"})
    os.utime(path, ns=(0, 0))
    assert members(path) == ["a/0.png", "a/1.png"]
    assert read_member(str(path), "a/1.png", MANY) == b"new"


# ---- names that are not used -----------------------------------------------------------------------------------------

HOSTILE = ["../x.png", "a/../../x.png", "a/..", "/etc/x.png", "C:/x.png", "c:x.png", "a\\..\\x.png", "\\\\host\\x.png", "a/b\\c.png"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_outside_is_left_out_and_named(packed, capsys, name):
    path = packed({name: b"bad", "a/1.png": b"good"})
    assert members(path) == ["a/1.png"]
    assert capsys.readouterr().err == f"! {path}: 1 member ({name!r}) left out: the name could lead outside the archive.\n"
    assert fault(path, name) == "the archive has no such member"
    assert read_member(str(path), "a/1.png", MANY) == b"good"


def test_names_with_a_null_character(tmp_path, capsys):
    path = write_zip(tmp_path / "x.zip", {"a/1.png_.exe": b"bad", "a/2.png": b"good"})
    path.write_bytes(path.read_bytes().replace(b"1.png_", b"1.png\0"))
    hostile = special("b/1.png", tarfile.REGTYPE)
    hostile.pax_headers = {"path": "b/1.png\0.exe"}
    tar = write_tar(tmp_path / "x.tar", {"b": hostile, "a/2.png": b"good"})
    assert members(path) == ["a/2.png"]
    assert r"('a/1.png\x00.exe') left out" in capsys.readouterr().err
    assert members(tar) == ["a/2.png"]
    assert r"('b/1.png\x00.exe') left out" in capsys.readouterr().err


def test_many_bad_names_are_one_line(tmp_path, capsys):
    path = write_zip(tmp_path / "x.zip", {**{f"../{number}.png": b"" for number in range(9)}, "a/1.png": b""})
    members(path)
    assert "9 members ('../0.png', '../1.png', '../2.png', ...) left out" in capsys.readouterr().err


def test_letters_that_move_the_cursor_are_not_printed(tmp_path, capsys):
    members(write_zip(tmp_path / "x.zip", {"../\x1b[2J.png": b"", "a/1.png": b""}))
    assert "\x1b" not in capsys.readouterr().err


def test_a_tar_name_that_is_not_utf8_is_left_out_and_named(tmp_path, capsys):
    path = write_tar(tmp_path / "x.tar", {"a/b\udcff.png": b"", "a/1.png": b""}, format=tarfile.GNU_FORMAT)
    assert members(path) == ["a/1.png"]
    assert r"('a/b\udcff.png') left out: the name is not valid UTF-8." in capsys.readouterr().err


def test_a_zip_with_a_name_that_should_be_utf8_and_is_not(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"ä/1.png": b""})
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    assert "damaged" in refusal(path)
    assert "utf-8" in refusal(path)


def test_links_and_devices_in_a_tar_are_left_out_and_named(tmp_path, capsys):
    path = write_tar(tmp_path / "x.tar", {
        "a/1.png": b"good", "link": special("a/link.png", tarfile.SYMTYPE, "../../secret.png"),
        "hard": special("a/hard.png", tarfile.LNKTYPE, "a/1.png"), "device": special("a/zero", tarfile.CHRTYPE),
        "pipe": special("a/pipe", tarfile.FIFOTYPE), "hidden": special("a/.lock", tarfile.SYMTYPE, "1"),
    })  # fmt: skip
    assert members(path) == ["a/1.png"]
    assert "4 members ('a/link.png', 'a/hard.png', 'a/zero', ...) left out: a link or device" in capsys.readouterr().err
    assert fault(path, "a/link.png") == "the archive has no such member"


def test_a_link_in_a_zip_is_left_out_and_named(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo("a/link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/1.png", b"good")
    assert members(tmp_path / "x.zip") == ["a/1.png"]
    assert "('a/link.png') left out: a link or device" in capsys.readouterr().err


def test_of_two_members_with_one_name_the_last_counts_and_it_is_said(tmp_path, capsys):
    path, tar = tmp_path / "x.zip", tmp_path / "x.tar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", b"third")
    write_tar(tar, {"a/1.png": b"first", "./a/1.png": b"second", "a//1.png": b"third"})
    for each in (path, tar):
        assert members(each) == ["a/1.png"]
        assert read_member(str(each), "a/1.png", MANY) == b"third"
        assert "1 member ('a/1.png') stored more than once, the last of which is used." in capsys.readouterr().err


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
