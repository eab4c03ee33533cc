"""What images give away of people: their faces, and where the pictures were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sightline import console
from sightline.auditing.ahead import worked
from sightline.auditing.faces import SIDES, SURE, Detector, Face
from sightline.auditing.finding import WARNING, Finding, Item
from sightline.data.channels import picture_of
from sightline.data.decode import decode_with_header, read_bytes
from sightline.data.limits import Limits
from sightline.data.reading import Reading
from sightline.data.store import Facts
from sightline.errors import ImageError
from sightline.records import ImageRef


def privacy_findings(facts: Facts, names: Sequence[str], faces: Mapping[str, Sequence[Face]] | None) -> list[Finding]:
    """A finding for positions and one for faces, where there are any.

    ``names`` are those of the rows of ``facts``; ``faces`` are what ``find_faces`` gives, None when they were not looked for.
    An image counts when one of its faces is sure.
    """
    placed = [names[row] for row in np.flatnonzero(facts.position).tolist()]
    found = {name: faces[name] for name in names if faces and faces.get(name)}
    shown = {name: some for name, some in found.items() if max(face.score for face in some) >= SURE}
    findings = [_of_positions(placed, len(names))] if placed else []
    return findings + ([_of_faces(shown, len(found) - len(shown), len(names))] if shown else [])


def _of_positions(placed: Sequence[str], n: int) -> Finding:
    return Finding(
        kind="positions",
        level=WARNING,
        title="Files that say where they were taken",
        sentence=f"{_count(len(placed), n)} in {_their(placed)} EXIF data the GPS position of the camera. Nobody sees it in "
        "the picture, but whoever gets the file can read it: often it is the address of a patient, a customer or an employee.",
        advice="Before the images are passed on, write a copy without it: --strip-metadata NEW_FOLDER. The pixels of JPEG, PNG and WebP "
        "files stay exactly as they are.",
        items=[Item((name,), "a GPS position in its EXIF data") for name in placed],
        figures={"images": len(placed)},
    )


def _of_faces(shown: Mapping[str, Sequence[Face]], unsure: int, n: int) -> Finding:
    total = sum(map(len, shown.values()))
    more = f" {unsure:,} more may show one, and may not." if unsure else ""
    return Finding(
        kind="faces",
        level=WARNING,
        title="Faces",
        sentence=f"{_count(len(shown), n, 'shows', 'show')} people's faces, {total:,} in all.{more} Pictures in which somebody can be "
        "recognised are personal data: whoever learns from them or passes them on needs a right to. A program has counted, which misses "
        "some faces that are turned away, covered or very small, and takes a few other things for faces.",
        advice="Where the faces do not matter, write a copy in which they are blurred beyond recognition, --blur-faces NEW_FOLDER, and "
        "look through it before it is passed on.",
        items=[Item((name,), f"{len(found)} face{'s'[: len(found) != 1]}") for name, found in shown.items()],
        figures={"images": len(shown), "faces": total, "unsure": unsure},
    )


def _count(some: int, n: int, one: str = "holds", more: str = "hold") -> str:
    return f"{some:,} of {n:,} images {one if some == 1 else more}"


def _their(names: Sequence[str]) -> str:
    return "its" if len(names) == 1 else "their"


def find_faces(
    detector: Detector, refs: Mapping[str, ImageRef], limits: Limits = Limits(), reading: Reading = Reading()
) -> dict[str, list[Face]]:
    """The faces in the original image of each name, in pixels of the whole upright image; what cannot be read has no entry."""

    def look(name: str) -> tuple[str, list[Face] | None]:
        try:
            return name, _faces_in(detector, refs[name], limits, reading)
        except ImageError:  # looking once has named it, with its reason
            return name, None

    found = console.track(worked(look, refs), len(refs), "Looking for faces")
    return {name: faces for name, faces in found if faces is not None}


def _faces_in(detector: Detector, ref: ImageRef, limits: Limits, reading: Reading) -> list[Face]:
    data = read_bytes(ref, limits)
    header, pixels = decode_with_header(data, str(ref), frame=ref.frame, min_side=max(SIDES), limits=limits, reading=reading)
    faces = detector.find(np.asarray(picture_of(pixels).convert("RGB")))
    across, down = header.width / pixels.shape[1], header.height / pixels.shape[0]
    return [Face((box[0] * across, box[1] * down, box[2] * across, box[3] * down), face.score) for face in faces for box in (face.box,)]
