"""The house's rules, held against the code: import directions, no torch on the product side, nothing done at import time."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sightline"
# Ground floor first; a room may import those on floors below, and those to its left. PRODUCT ends with the runtime.
ORDER = [
    ("errors", "texts", "fp16", "records", "predictions", "scenes", "settings", "config", "figures", "requirements", "console",
     "processor", "energy"),
    ("data", "drawing", "evaluation", "tasks"),
    ("archive", "npz", "manifest", "onnx_check", "signature", "bundle", "reference"),
    ("engines", "tiling", "runtime", "replay", "assessment", "saving", "bulk", "explanation", "serving"),
    ("model", "training", "report", "auditing", "trust", "package", "exporting", "shrinking"),
    ("diagnosis", "comparison", "trainer", "folds", "pipeline", "signing", "flags", "exits", "cli"),
]  # fmt: skip
PLACE = {room: place for place, room in enumerate(room for floor in ORDER for room in floor)}
PRODUCT = ("errors", "processor", "texts", "fp16", "records", "predictions", "scenes", "settings", "config", "figures", "requirements",
           "console", "energy", "data", "drawing", "evaluation", "tasks", "archive", "npz", "manifest", "onnx_check", "signature", "bundle",
           "reference", "engines", "tiling", "runtime", "replay", "assessment", "saving", "bulk", "explanation", "serving", "comparison",
           "pipeline", "signing", "flags", "exits", "cli")  # fmt: skip
TRAIN_ONLY = ("torch", "torchvision", "timm", "sklearn", "skimage", "scipy", "onnx", "onnxscript", "jinja2", "loky", "safetensors",
              "tensorboard", "mlflow", "pycocotools", "faster_coco_eval", "torchmetrics", "torch_pruning")  # fmt: skip
DOORS = ("__init__.py", "__main__.py")
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name not in DOORS or path.parent != SOURCE)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} if node.module == "sightline" else {node.module}
            )
    return found - {"sightline"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_rooms_import_downwards_only(path):
    room = room_of(path)
    assert room in PLACE, f"{room} has no place yet: put it into ORDER and into docs/architecture.md"
    ours = {name.split(".")[1] for name in imports(path, top_level_only=True) if name.startswith("sightline.")}
    upwards = {other for other in ours - {room} if PLACE[other] > PLACE[room]}
    assert not upwards, f"{path.name} imports {upwards} from its right or above"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) in PRODUCT], ids=lambda path: path.relative_to(SOURCE).as_posix()
)
def test_the_product_side_imports_no_training_library(path):
    used = {name.split(".")[0] for name in imports(path)} & set(TRAIN_ONLY)
    # Looking once belongs to training, and takes its process pool when it starts.
    assert used <= ({"loky"} if path.name == "look.py" else set())


def test_using_a_bundle_works_with_every_training_library_blocked(run, shapes):
    """In a fresh interpreter: open, predict, evaluate and verify, with torch and its like impossible to import."""
    image = shapes / "disc" / "000.png"
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAIN_ONLY!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
import sightline
from sightline.cli import _exit_code
model = sightline.Model.open({str(run.model)!r})
assert model.predict({str(image)!r}).label in {("cross", "disc", "square")!r}
for words in (["predict", {str(run.model)!r}, {str(image)!r}], ["evaluate", {str(run.model)!r}, {str(shapes)!r}],
              ["verify", {str(run.model)!r}], ["doctor"]):
    assert _exit_code(words) == 0, words
assert not set(sys.modules) & set({TRAIN_ONLY!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import sightline; print(*(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in new if name.split(".")[0] not in sys.stdlib_module_names} == {"sightline"}


def test_every_public_name_is_there():
    import sightline

    assert all(getattr(sightline, name) is not None for name in sightline.__all__)
    assert set(sightline.__all__) <= set(dir(sightline))
    # Importing a subpackage sets it as an attribute of the package, so none may have the name of a verb.
    for path in MODULES:
        importlib.import_module(".".join(["sightline", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"))
    assert all(callable(getattr(sightline, verb)) for verb in ("train", "evaluate", "predict", "verify", "compare"))
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        sightline.tarin  # noqa: B018


def test_help_needs_no_heavy_library():
    code = "import sys\nfrom sightline.cli import _exit_code\n_exit_code(['--help'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "onnxruntime", "torch"} & set(done.stderr.split())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_stay_readable(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300, "a file above 300 lines wants to be two"
    assert path.stem not in ("utils", "helpers", "common", "misc")
