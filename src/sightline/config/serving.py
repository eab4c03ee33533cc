"""Settings of serving bundles over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config.opening import most_bytes, most_pixels
from sightline.config.using import ENGINES, PRECISIONS, REQUIRE_SIGNATURE
from sightline.settings import setting

MAX_UPLOAD = 64_000_000


@dataclass(frozen=True)
class ServeConfig:
    """Serving."""

    host: str = setting("127.0.0.1", "Address to listen at; one that other machines can reach needs a token.")
    port: int = setting(8000, "Port to listen at; 0 for any that is free.", low=0, high=65535)
    token: str | None = setting(
        None,
        "What requests must show in 'Authorization: Bearer TOKEN', at least 16 characters; SIGHTLINE_TOKEN when not given, and made up "
        "where other machines can reach the address.",
    )
    allow_host: str | None = setting(None, "Names, with commas between, by which clients may call this server besides its address.")
    workers: int = setting(1, "Processes that share the port, each with the models open and its share of the threads.", low=1, high=256)
    batch_size: int = setting(16, "Images computed at once, at most.", low=1, high=4096)
    max_wait_ms: float = setting(
        5.0, "Milliseconds that a batch waits for images still being decoded, while nothing is computed.", low=0.0, high=10_000.0
    )
    queue: int = setting(128, "Images that may be under way at once; requests beyond are answered 503.", low=1, high=100_000)
    timeout: float = setting(30.0, "Seconds after which a request is given up and answered 504.", low=0.05, high=86_400.0)
    max_upload: int = setting(MAX_UPLOAD, "Bytes of a request, at most.", low=1)
    max_files: int = setting(64, "Images in a request, at most.", low=1, high=100_000)
    max_pixels: int = most_pixels()
    max_bytes: int = most_bytes(MAX_UPLOAD)
    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    engine: str = setting("auto", "What computes; auto measures once which of those installed is fastest here.", choices=ENGINES)
    precision: str = setting(
        "auto",
        "Numbers to compute in; auto takes bf16 only where it is faster and changes no answer on the photographs in the bundle.",
        choices=PRECISIONS,
    )
    require_signature: str | None = setting(None, REQUIRE_SIGNATURE)
    watch: bool = setting(True, "Look every second whether a bundle was replaced, and serve the new one without a pause.")
