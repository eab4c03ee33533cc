"""Pictures of a run's report for ``docs/report.md``, taken in Debian's chromium.

    python docs/picture_report.py RUN

RUN is the folder of a finished run, such as one on clothing photographs; docs/pictures/ gets a JPEG of each part in ``SHOTS``.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
FOLDER = Path(__file__).parent / "pictures"
TALLEST, QUALITY = 2400, 72
# Section of the page, width of the window in pixels, colour scheme, most height: of what it learned, the early and middle stages.
SHOTS = (
    ("results", 1280, "light", TALLEST), ("confidence", 1280, "light", TALLEST), ("groups", 1280, "dark", TALLEST),
    ("robustness", 1280, "light", TALLEST), ("baselines", 1280, "dark", TALLEST), ("explanations", 1280, "dark", TALLEST),
    ("learned", 1280, "light", 1190), ("confidence", 390, "dark", TALLEST), ("robustness", 390, "light", TALLEST),
)  # fmt: skip


def take(page_file: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for anchor, width, scheme, tallest in SHOTS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(page_file.resolve().as_uri())
            wider = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            if wider:
                sys.exit(f"The report is wider than a window of {width} pixels.")
            shot = Image.open(io.BytesIO(page.locator(f"#{anchor}").screenshot())).convert("RGB")
            shot.crop((0, 0, shot.width, min(shot.height, tallest))).save(
                FOLDER / f"report-{anchor}-{width}-{scheme}.jpg", quality=QUALITY, optimize=True
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "report.html").is_file():
        sys.exit("Name the folder of a finished run.")
    take(Path(sys.argv[1]) / "report.html")
