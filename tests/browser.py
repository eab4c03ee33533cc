"""Sees to it that the browser tests can run: installs Debian's chromium where it is missing and this user may.

Run by ``make test`` before pytest. Where it cannot be done, the reason is printed and the browser tests are skipped with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

CHROMIUM = "/usr/bin/chromium"


def why_missing() -> str:
    """An empty string when the browser is there, else the reason why not."""
    if os.path.exists(CHROMIUM):
        return ""
    if not shutil.which("apt-get"):
        return f"{CHROMIUM} is missing, and without apt-get it has to be installed by hand"
    if os.geteuid() != 0:
        return f"{CHROMIUM} is missing, and installing it needs root: apt-get install chromium"
    return f"{CHROMIUM} is missing and could not be installed: apt-get install chromium"


def install() -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
        if subprocess.run(["apt-get", "--quiet", *words], **quiet, check=False).returncode:
            return


if __name__ == "__main__":
    if why_missing() and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing chromium for the browser tests", file=sys.stderr)
        install()
    print(why_missing() or f"The browser tests use {CHROMIUM}", file=sys.stderr)
