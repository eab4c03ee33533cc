"""Which variants are asked for: forms and precisions from their flags, without those that cannot be made."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sightline import console
from sightline.config import ExportConfig
from sightline.errors import ConfigError, ResourceError, UsageError, did_you_mean

# What each form needs that is not in the base install, and the extra that has it.
NEEDS = {"onnx": (), "openvino": (("openvino", "fast"),), "torch": (("torch", "train"), ("timm", "train"))}
PRECISIONS = ("fp32", "fp16", "int8")
ENDINGS = {"onnx": ".sight", "openvino": "-openvino", "torch": ".pt2"}


@dataclass(frozen=True)
class Wanted:
    """A variant by its form, one of ``NEEDS``, and its precision, one of ``PRECISIONS``."""

    form: str
    precision: str

    @property
    def name(self) -> str:
        """As the table has it; a bundle, which is what everything else here reads, goes without the name of its form."""
        return self.precision if self.form == "onnx" else f"{self.form} {self.precision}"

    @property
    def ending(self) -> str:
        return f"-{self.precision}{ENDINGS[self.form]}"

    def __str__(self) -> str:
        places = {"onnx": "", "openvino": " for OpenVINO", "torch": " for torch"}
        return f"{self.precision.upper()}{places[self.form]}"


def wanted(config: ExportConfig) -> list[Wanted]:
    """The variants to make; what is left out is said.

    Raises ConfigError for names that there are not, UsageError where nothing is left to make or a library is not installed.
    """
    forms, precisions = _listed("to", config.to, tuple(NEEDS)), _listed("precision", config.precision, PRECISIONS)
    asked = [Wanted(form, precision) for form, precision in product(forms, precisions)]
    objections = [_objection(one, config.data is not None) for one in asked]
    left_out = list(dict.fromkeys(filter(None, objections)))
    making = [one for one, objection in zip(asked, objections, strict=True) if objection is None]
    if not making:
        raise UsageError(" ".join(left_out))
    _check_installed(making)
    for sentence in left_out:
        console.warn(f"Left out: {sentence}")
    return making


def _listed(flag: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names in a list with commas, each once, in the order of ``known``."""
    names = [name.strip().lower() for name in text.split(",")]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ConfigError([f"--{flag} {name}: must be one or more of {', '.join(known)}.{did_you_mean(name, known)}" for name in wrong])
    return tuple(name for name in known if name in names)


def _objection(one: Wanted, with_data: bool) -> str | None:
    if one.precision != "int8":
        return None
    if one.form == "torch":
        return "--to torch: has no INT8 variants, as torch leaves that to a package of its own; --to onnx or openvino has."
    if not with_data:
        return (
            "--data: give the labelled images that the bundle was made from, with which an INT8 variant is calibrated and judged; without "
            "them only --precision fp32 and fp16 can be made."
        )
    return None


def _check_installed(making: Sequence[Wanted]) -> None:
    """UsageError for the first library that is needed and not there, before any work is done."""
    needs = [(one, library, extra) for one in making for library, extra in NEEDS[one.form]]
    # The graph itself is edited for all but what is taken over as it is.
    needs += [(one, "onnx", "train") for one in making if one.precision != "fp32" and one.form != "torch"]
    for one, library, extra in needs:
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"Exporting in {one} needs {library}, which is not installed: pip install 'sightline[{extra}]'.")


def targets_of(making: Sequence[Wanted], config: ExportConfig, source: Path) -> dict[Wanted, Path]:
    """Where each variant is to go, the first free name of it; ResourceError where there is no such folder.

    ``--out`` names the file of a single variant, and the folder of several.
    """
    several = len(making) > 1
    folder = Path(config.out) if several and config.out else source.parent
    single = Path(config.out) if config.out and not several else None
    if several and not folder.is_dir():
        raise ResourceError(f"{folder}: is no folder for the {len(making)} variants; make it or give another --out.")
    if single is not None and not single.parent.is_dir():
        raise ResourceError(f"{single.parent}: is no folder to write {single.name} to; make it or give another --out.")
    return {one: single or folder / f"{source.stem}{one.ending}" for one in making}
