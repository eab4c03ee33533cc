"""Pictures of the server's page for ``docs/page.md``, taken in Debian's chromium.

    sightline serve shapes.sight figures.sight --port 8000
    python docs/picture_page.py http://127.0.0.1:8000 shapes=disc.png shapes=stripes.png figures=shapes.png

Each MODEL=IMAGE gives the image to that model; docs/pictures/ gets a JPEG of the page for each window in ``WINDOWS``. The pictures in the
project are of rendered images, by models that were trained on rendered images.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FOLDER = Path(__file__).parent / "pictures"
QUALITY = 76
# Width and height of the window in pixels, and the colour scheme.
WINDOWS = ((1280, 1300, "light"), (1280, 1300, "dark"), (390, 1600, "light"))
# Milliseconds until an answer has to be there.
PATIENCE = 60_000


def take(address: str, given: list[tuple[str, str]]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for model, image in given:
            for width, height, scheme in WINDOWS:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                _answered(page, address, model, image)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                name = f"page-{model}-{Path(image).stem}-{width}-{scheme}.jpg"
                shot.save(FOLDER / name, quality=QUALITY, optimize=True)
                page.close()
        browser.close()


def _answered(page: Page, address: str, model: str, image: str) -> None:
    """Give the image to the model, and wait until it is answered and, where that can be asked for, explained."""
    page.goto(address)
    page.locator("#about strong").wait_for()
    if page.locator("#model").is_visible():
        page.locator("#model").select_option(model)
    page.locator("#files").set_input_files(image)
    page.locator("#list .said, #list .bars").first.wait_for(timeout=PATIENCE)
    why = page.get_by_role("button", name="Show why")
    if why.count():
        why.click()
    page.locator("#list .busy").wait_for(state="detached", timeout=PATIENCE)
    page.mouse.move(0, 0)  # what it points at is lit up
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(400)  # what fades in is there


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in words for words in sys.argv[2:]):
        sys.exit("Name the address of a server, and what to give to which of its models: MODEL=IMAGE.")
    take(sys.argv[1], [tuple(words.split("=", 1)) for words in sys.argv[2:]])  # type: ignore[misc]
