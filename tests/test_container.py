"""container: archives are read in place, believed in nothing, and lose no more than what is bad in them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packed_archives import MANY, PACKINGS, fault, refusal, special, write, write_tar, write_zip
from sightline.data.container import is_archive, member_size, members, read_member, stem
from sightline.data.listing import image_names, is_image_name, names_on_disk


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
             "license", "photo", "c.tar.gz", "..png", "d.jpg.json", "json", "e.jsonl", "f.NDJSON"]  # fmt: skip


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
