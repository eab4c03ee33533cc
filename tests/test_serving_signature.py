"""serving.signature: only bundles signed with the right key are served, from the start on and when they are replaced."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from served import write_colours
from sightline.bundle import Bundle
from sightline.config import ServeConfig
from sightline.errors import ModelFileError, UsageError
from sightline.serving.metrics import Metrics
from sightline.serving.models import Models
from sightline.serving.signature import check_signature, signature_of

KEY = Ed25519PrivateKey.generate()


def public(path, key=KEY):
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture
def bundle(tmp_path):
    """A signed bundle."""
    return sign(write_colours(tmp_path / "colours.sight"))


def sign(path, key=KEY):
    signature_of(path).write_bytes(key.sign(path.read_bytes()))
    return path


def check(bundle, key):
    with Bundle.open(bundle) as opened:
        check_signature(opened, key)


def test_a_bundle_that_was_signed_passes(bundle, tmp_path):
    assert signature_of(bundle).name == "colours.sight.sig"
    check(bundle, public(tmp_path / "public.pem"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_signs_as_is_written(bundle, tmp_path):
    for words in (
        "genpkey -algorithm ed25519 -out private.pem", "pkey -in private.pem -pubout -out public.pem",
        "pkeyutl -sign -inkey private.pem -rawin -in colours.sight -out colours.sight.sig",
    ):  # fmt: skip
        subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    check(bundle, tmp_path / "public.pem")


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda path: signature_of(path).unlink(), "is not signed"),
    (lambda path: signature_of(path).write_bytes(b""), "was altered"),
    (lambda path: signature_of(path).write_bytes(signature_of(path).read_bytes() + b"x"), "was altered"),
    (lambda path: sign(path, Ed25519PrivateKey.generate()), "was not signed with the key"),
    (lambda path: write_colours(path, sharpness=1.0), "was altered"),
])  # fmt: skip
def test_any_other_is_refused(bundle, tmp_path, spoil, says):
    spoil(bundle)
    with pytest.raises(ModelFileError, match=says):
        check(bundle, public(tmp_path / "public.pem"))


def test_what_is_no_key_is_said(bundle, tmp_path):
    for path, says in ((tmp_path / "nowhere.pem", "cannot be read"), (bundle, "no public key"), (
        public(tmp_path / "other.pem", generate_private_key(SECP256R1())), "not an Ed25519 key",
    )):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            check(bundle, path)


def test_a_server_that_asks_for_signatures_opens_no_other(bundle, tmp_path):
    config = ServeConfig(engine="onnxruntime", threads=1, require_signature=str(public(tmp_path / "public.pem")))
    models = Models({"colours": bundle}, config, Metrics())
    models.open().close()
    signature_of(bundle).unlink()
    with pytest.raises(ModelFileError, match="is not signed"):
        models.open()
