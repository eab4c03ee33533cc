"""Which variants are asked for: forms and precisions from their flags, without those that cannot be made."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sightline import console
from sightline.config import ExportConfig
from sightline.errors import ConfigError, UsageError, did_you_mean

# What each form needs that is not in the base install, and the extra that has it.
NEEDS = {"onnx": (), "openvino": (("openvino", "fast"),), "torch": (("torch", "train"), ("timm", "train"))}
PRECISIONS = ("fp32", "fp16", "int8")
ENDINGS = {"onnx": ".sight", "openvino": "-openvino", "torch": ".pt2"}
# What no folder is called that is meant for several.
OF_FILES = (".sight", ".pt2", ".onnx")
# Settings of variants that a standalone file has no use for, and so do nothing beside it.
OF_VARIANTS = ("to", "precision", "max_loss", "max_difference", "calibration_images", "engine")


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


def check_given(config: ExportConfig) -> None:
    """ConfigError naming all that is given and would do nothing; what has its default counts as not given."""
    problems = []
    if config.standalone:
        given = {name: getattr(config, name) for name in OF_VARIANTS if getattr(config, name) != getattr(ExportConfig, name)}
        problems = [f"--{name.replace('_', '-')} {value}: does nothing beside --standalone; leave it out." for name, value in given.items()]
    if config.epochs is not None:
        problems.append(f"--epochs {config.epochs}: only a smaller model is trained; give --latency or --size, or leave it out.")
    if problems:
        raise ConfigError(problems)


def wanted(config: ExportConfig) -> list[Wanted]:
    """The variants to make; what is left out is said.

    Raises ConfigError for names that there are not, UsageError where nothing is left to make or a library is not installed.
    """
    forms, precisions = listed("to", config.to, tuple(NEEDS)), listed("precision", config.precision, PRECISIONS)
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


def listed(flag: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names in a list with commas, each once, in the order of ``known``; ConfigError for others."""
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
    """Where each variant is to go, or to the first free name like it; UsageError where ``--out`` does not suit them.

    It names a single variant, or the folder for it where that is there, and the folder of several, which need not be there.
    """
    usual = {one: source.with_name(f"{source.stem}{one.ending}") for one in making}
    if len(making) == 1:
        return {one: place_for(config.out, path, is_folder=one.form == "openvino") for one, path in usual.items()}
    folder = _folder_for(config.out, len(making)) if config.out else source.parent
    return {one: folder / path.name for one, path in usual.items()}


def place_for(out: str | None, usual: Path, *, is_folder: bool = False) -> Path:
    """Where the only thing that is written goes: to ``out``, or into it under its ``usual`` name where that is a folder and the thing
    is none. UsageError where there is no folder for it."""
    path = Path(out) if out else usual
    if out and path.is_dir() and not is_folder:
        path = path / usual.name
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: {path.parent} is no folder to write {path.name} to; make it or name another.")
    return path


def _folder_for(out: str, count: int) -> Path:
    """The folder of several variants, which is there or can be made; UsageError for any other."""
    folder = Path(out)
    if not folder.is_dir() and folder.suffix.lower() in OF_FILES:
        raise UsageError(f"--out {out}: is the name of a file, and there are {count} variants; name a folder for them.")
    if not folder.is_dir() and (folder.exists() or not folder.parent.is_dir()):
        raise UsageError(f"--out {out}: is no folder for the {count} variants; make it or name another.")
    return folder
