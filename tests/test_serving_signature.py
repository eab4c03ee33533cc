"""Serving signed bundles: only those signed with the right key are served, from the start on and when they are replaced."""

from __future__ import annotations

import asyncio
import os

import pytest

from served import write_colours
from sightline.config import ServeConfig
from sightline.errors import ModelFileError
from sightline.serving.metrics import Metrics
from sightline.serving.models import Models
from sightline.signing import sign

pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")


@pytest.fixture
def models(tmp_path):
    """A server's models, of which one that is signed; its path is ``models.paths["colours"]``."""
    sign(new_key=tmp_path / "key.pem")
    path = write_colours(tmp_path / "colours.sight")
    sign(path, key=tmp_path / "key.pem")
    config = ServeConfig(engine="onnxruntime", threads=1, require_signature=str(tmp_path / "key.pub.pem"))
    return Models({"colours": path}, config, Metrics())


def test_a_server_that_asks_for_signatures_opens_no_other(models):
    models.open().close()
    write_colours(models.paths["colours"])
    with pytest.raises(ModelFileError, match="is not signed"):
        models.open()


def test_an_unsigned_file_is_not_swapped_in_and_a_signed_one_is(models, tmp_path):
    models.open()
    served = models.named("colours")
    new = write_colours(tmp_path / "new.sight", sharpness=2.0)
    os.replace(new, models.paths["colours"])
    assert not asyncio.run(models.swap("colours"))
    assert models.named("colours") is served
    sign(models.paths["colours"], key=tmp_path / "key.pem")
    assert asyncio.run(models.swap("colours"))
    assert models.named("colours").sha256 != served.sha256
    models.close()
