"""Ground floor: reading, looking at, splitting and preparing images. Never imports torch."""
