"""What is said of an explained image, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.explanation.sheet import INK, TITLE, WARNING, Line

if TYPE_CHECKING:
    from sightline.explanation.explain import Explained

METHODS = {
    "CAM": "CAM: how much each part adds to the label's score, read off the network's last layers.",
    "occlusion": "Occlusion: how much the label's score loses when each part is painted over.",
}
# Labels in a sentence.
NAMED = 10


def caption(explained: Explained) -> list[Line]:
    """Label and score, the method, how the map fared in its test, and the report's verdict on this model's maps."""
    lines = [Line(f"{explained.label}, {explained.score:.1%}", INK, TITLE)]
    if explained.abstained:
        lines.append(Line(f"The model does not answer for this image; its best guess is {_said(explained)}.", WARNING))
    elif sentence := _beside(explained):
        lines.append(Line(sentence))
    seen = "" if explained.whole else " What lies in the dark the network does not see: it looks at the middle of an image."
    lines.append(Line(METHODS[explained.method] + seen))
    if not explained.heat.any():
        lines.append(Line("No part of the image speaks for this label more than the others.", WARNING))
    lines.append(Line(tested_sentence(explained)))
    if explained.trust is not None:
        lines.append(Line(explained.trust["sentence"], INK if explained.trust["trusted"] else WARNING))
    return lines


def _beside(explained: Explained) -> str:
    """What the model answers, where that is not what is explained, or which part of it is; "" where there is no more to say."""
    given, label = explained.given, explained.label
    if not given:
        return f"The model gives {_said(explained)}; {'this' if label == explained.answer else explained.answer} came nearest."
    if label not in given:
        return f"The model's answer is {_said(explained)}."
    if explained.scenes == "boxes" and label != given[0]:
        return f"The surest box is of {given[0]}."
    if explained.scenes == "maps" and len(given) > 1:
        what = "This" if label == explained.answer else explained.answer
        return f"{what} is the smallest area of note on the model's map."
    return ""


def _said(explained: Explained) -> str:
    """What the model gives, such as ``sea and sun``, ``boxes of cat`` or ``no label``."""
    if not explained.given:
        return "no box" if explained.scenes else "no label"
    shown, more = explained.given[:NAMED], len(explained.given) - NAMED
    *first, last = (*shown, f"{more} more") if more > 0 else shown
    listed = f"{', '.join(first)} and {last}" if first else last
    return {"boxes": f"boxes of {listed}", "maps": f"a map of {listed}"}.get(explained.scenes or "", listed)


def tested_sentence(explained: Explained) -> str:
    """How the map fared against random ones."""
    found = explained.tested
    if "reason" in found:
        return str(found["reason"])
    count = found["random_maps"]
    beaten = {name: f"{round(found[f'{name}_wins'] * count)} of {count}" for name in ("deletion", "insertion")}
    return (
        f"Taking away the hottest parts first leaves a mean score of {found['deletion']:.2f} (random maps {found['random_deletion']:.2f}; "
        f"better than {beaten['deletion']}). Starting with them gives {found['insertion']:.2f} (random maps "
        f"{found['random_insertion']:.2f}; better than {beaten['insertion']})."
    )
