"""Signed bundles: what was signed is accepted, anything else is refused with one sentence and exit code 4."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.cli import _exit_code
from sightline.errors import ModelFileError, UsageError
from sightline.signing import sign
from small_bundle import MANIFEST, PARTS, craft, entry, members_of

pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and the public one."""
    sign(new_key=tmp_path / "key.pem")
    return tmp_path / "key.pem", tmp_path / "key.pub.pem"


@pytest.fixture
def path(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A signed bundle."""
    target = tmp_path / "model.sight"
    write(target, MANIFEST, PARTS)
    sign(target, key=keys[0])
    return target


def refused(path: Path, key: Path, words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        Bundle.open(path, require_signature=key)
    sentence = str(caught.value)
    assert re.search(words, sentence), sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_pair_of_keys_is_made_once(tmp_path):
    made = sign(new_key=tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert made.public_key == str(tmp_path / "key.pub.pem")
    assert re.fullmatch("[0-9a-f]{32}", made.fingerprint)
    before = (tmp_path / "key.pem").read_bytes()
    for left in ("key.pem", "key.pub.pem"):
        (tmp_path / left).write_bytes(before)
        with pytest.raises(UsageError, match="would be overwritten"):
            sign(new_key=tmp_path / "key.pem")
        assert (tmp_path / left).read_bytes() == before
        (tmp_path / left).unlink()
        with pytest.raises(UsageError, match="would be overwritten"):
            sign(new_key=tmp_path / "key.pem")
        (tmp_path / left).write_bytes(before)


def test_openssl_reads_the_keys(keys):
    """Another implementation of the same standard agrees that the two belong together."""
    try:
        done = subprocess.run(["openssl", "pkey", "-in", keys[0], "-pubout"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"there is no openssl that knows Ed25519: {error}")
    assert done.stdout.split() == keys[1].read_bytes().split()


def test_a_signed_bundle_is_accepted_and_holds_what_it_held(path, keys):
    with Bundle.open(path, require_signature=keys[1]) as opened:
        for part in PARTS:
            assert opened.read(part.role) == part.data
        assert opened.manifest.labels == MANIFEST.labels
    with zipfile.ZipFile(path) as archive:
        assert [info.filename for info in archive.infolist()] == ["manifest.json", *(part.name for part in PARTS), "signature.json"]
    assert [found.name for found in path.parent.glob(".*")] == []


def test_where_no_signature_is_asked_for_it_opens_too_also_for_readers_that_do_not_know_the_role(path, monkeypatch):
    Bundle.open(path).close()
    monkeypatch.delitem(sys.modules["sightline.manifest"].ROLES, "signature")
    with Bundle.open(path) as opened:
        assert not opened.has("signature")
        assert opened.read("graph") == PARTS[0].data


def test_signing_again_replaces_the_signature(path, keys, tmp_path):
    sign(path, new_key=tmp_path / "other.pem")
    refused(path, keys[1], "signed with another key than")
    with Bundle.open(path, require_signature=tmp_path / "other.pub.pem") as opened:
        assert [member.role for member in opened.manifest.members].count("signature") == 1
    sign(path, key=keys[0])
    with Bundle.open(path, require_signature=keys[1]) as opened:
        assert len(opened.manifest.members) == len(PARTS) + 1


def test_what_the_manifest_says_beyond_what_is_known_stays_and_is_signed(path, keys):
    craft(path, members_of(path), lambda made: made.update(later={"x": 1e300, "ä": [None, True]}))
    refused(path, keys[1], "altered after it was signed")
    sign(path, key=keys[0])
    Bundle.open(path, require_signature=keys[1]).close()
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("manifest.json"))["later"] == {"x": 1e300, "ä": [None, True]}


def test_an_unsigned_bundle_is_refused(tmp_path, keys):
    write(tmp_path / "plain.sight", MANIFEST, PARTS)
    refused(tmp_path / "plain.sight", keys[1], r"plain\.sight is not signed, and --require-signature asks for it")


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.update(seed=8),
        lambda made: made["labels"].reverse(),
        lambda made: made["prepare"].update(mean=[0.5, 0.5, 0.25]),
        lambda made: made["members"].reverse(),
        lambda made: made["members"][0].update(required=True),
    ],
)
def test_an_altered_manifest_is_refused(path, keys, change):
    craft(path, members_of(path), change)
    Bundle.open(path).close()
    refused(path, keys[1], "was altered after it was signed")


def test_an_added_or_a_missing_member_is_refused(path, keys):
    members = members_of(path)
    craft(path, {**members, "extra.bin": b"x"}, lambda made: made["members"].append(entry("extra.bin", b"x")))
    refused(path, keys[1], "was altered after it was signed")
    craft(
        path,
        {name: data for name, data in members.items() if name != "card.md"},
        lambda made: (made["members"].pop(), made["members"].pop(1)),
    )
    refused(path, keys[1], "was altered after it was signed")


def test_an_altered_member_with_its_hash_recomputed_is_refused(path, keys):
    members = {**members_of(path), "model.onnx": b"evil"}

    def lie(made: dict) -> None:
        made["members"][0] = entry("model.onnx", b"evil", "graph")

    craft(path, members, lie)
    Bundle.open(path).close()
    refused(path, keys[1], "was altered after it was signed with the key in")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 4000, b"x" * 5000, b'{"algorithm": "Ed25519", "public_key": "?", "signature": "?"}',
     b'{"algorithm": "none", "public_key": "", "signature": ""}', b'{"algorithm": "Ed25519", "public_key": 1, "signature": 2}'],
)  # fmt: skip
def test_what_is_no_signature_is_refused(path, keys, content):
    with Bundle.open(path) as opened:
        opened.put(Part("signature.json", "signature", content))
    refused(path, keys[1], "has a signature that is not one of Ed25519")


def test_signatures_are_not_passed_on_to_other_bundles(path, keys, tmp_path):
    with Bundle.open(path) as opened:
        signature = opened.read("signature")
    write(tmp_path / "evil.sight", MANIFEST, [Part("model.onnx", "graph", b"evil"), Part("signature.json", "signature", signature)])
    refused(tmp_path / "evil.sight", keys[1], "was altered after it was signed")


def test_a_signature_by_whoever_claims_to_be_another_is_refused(path, keys, tmp_path):
    """The public key in the bundle is the right one, but the signature is by another."""
    with Bundle.open(path) as opened:
        right = json.loads(opened.read("signature"))
        sign(path, new_key=tmp_path / "other.pem")
    with Bundle.open(path) as opened:
        wrong = json.loads(opened.read("signature"))
        opened.put(Part("signature.json", "signature", json.dumps({**wrong, "public_key": right["public_key"]}).encode()))
    refused(path, keys[1], "was altered after it was signed")


def test_keys_that_are_none(path, keys, tmp_path):
    bad = tmp_path / "bad.pem"
    refused(path, bad, r"--require-signature .*bad\.pem: cannot be read \(No such file or directory\)")
    refused(path, tmp_path, "cannot be read")
    for content in (b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", keys[1].read_bytes()[:60]):
        bad.write_bytes(content)
        refused(path, bad, "holds no public key in PEM")
    refused(path, keys[0], "holds a private key; name the file with the public one")
    with pytest.raises(ModelFileError, match="holds a public key; name the file with the private one"):
        sign(path, key=keys[1])
    Bundle.open(path, require_signature=keys[1]).close()


def test_a_key_of_another_kind_is_refused(path, tmp_path):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    key, file = generate_private_key(SECP256R1()), tmp_path / "ec.pem"
    file.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    refused(path, file, "another kind than Ed25519")
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    with pytest.raises(ModelFileError, match="another kind than Ed25519"):
        sign(path, key=file)
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret")))
    with pytest.raises(ModelFileError, match="without a password"):
        sign(path, key=file)


def test_without_the_library_the_extra_is_named(path, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for call in (lambda: Bundle.open(path, require_signature=keys[1]), lambda: sign(path, key=keys[0]), lambda: sign(new_key="x.pem")):
        with pytest.raises(UsageError, match=r"pip install 'sightline\[sign\]'"):
            call()
    Bundle.open(path).close()


@pytest.mark.parametrize("settings", [{}, {"key": "a.pem"}, {"key": "a.pem", "new_key": "b.pem"}])
def test_flags_that_do_not_go_together(settings):
    with pytest.raises(UsageError, match="--key"):
        sign(**settings)


def test_a_link_to_a_bundle_stays_one(path, keys, tmp_path):
    (tmp_path / "latest.sight").symlink_to(path)
    sign(tmp_path / "latest.sight", key=keys[0])
    assert (tmp_path / "latest.sight").is_symlink()
    Bundle.open(tmp_path / "latest.sight", require_signature=keys[1]).close()


def test_a_bundle_altered_while_it_is_signed_stays_as_it_is(path):
    with Bundle.open(path) as opened:
        data = path.read_bytes()
        altered = data.replace(PARTS[0].data, b"evil" + PARTS[0].data[4:])
        with path.open("r+b") as file:
            file.write(altered)
        with pytest.raises(ModelFileError, match=r"damaged|altered"):
            opened.put(Part("signature.json", "signature", b"{}"))
    assert path.read_bytes() == altered
    assert [found.name for found in path.parent.glob(".*")] == []


def test_other_members_are_put_in_the_same_way(path):
    with Bundle.open(path) as opened:
        opened.put(Part("replay.npz", "replay", arrays_to_bytes({"a": np.zeros(2)})))
        assert opened.arrays("replay")["a"].tolist() == [0, 0]
    with Bundle.open(path) as opened:
        assert opened.arrays("replay")["a"].tolist() == [0, 0]


def test_every_verb_asks_for_the_signature(path, keys, tmp_path, capsys):
    """Before anything else in the bundle is used: this one's graph is none."""
    unsigned = tmp_path / "unsigned.sight"
    write(unsigned, MANIFEST, PARTS)
    for words in (["predict", unsigned, "x.png"], ["evaluate", unsigned, tmp_path], ["explain", unsigned, "x.png"], ["verify", unsigned]):
        assert _exit_code([*map(str, words), "--require-signature", str(keys[1])]) == 4
        said = capsys.readouterr().err
        assert said == (
            f"sightline: {unsigned} is not signed, and --require-signature asks for it: have it signed with 'sightline sign', "
            "or do not use it.\n"
        )


def test_the_command_line_signs(path, tmp_path, capsys):
    assert _exit_code(["sign", str(path), "--new-key", str(tmp_path / "mine.pem"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"model": str(path), "fingerprint": told["fingerprint"], "public_key": str(tmp_path / "mine.pub.pem")}
    assert _exit_code(["sign", str(path), "--key", str(tmp_path / "mine.pem")]) == 0
    assert capsys.readouterr().out == f"Signed      {path}\nKey         {told['fingerprint']}\n"
    Bundle.open(path, require_signature=told["public_key"]).close()


def test_no_keys_are_made_for_what_cannot_be_signed(tmp_path):
    (tmp_path / "wrong.sight").write_bytes(b"no bundle")
    for name in ("wrong.sight", "absent.sight"):
        with pytest.raises(ModelFileError):
            sign(tmp_path / name, new_key=tmp_path / "mine.pem")
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.sight"]
