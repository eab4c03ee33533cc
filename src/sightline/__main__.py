"""``python -m sightline``: the command line by the package's name, which is how ``torchrun -m sightline`` starts it."""

from __future__ import annotations

from sightline.cli import main

if __name__ == "__main__":
    main()
