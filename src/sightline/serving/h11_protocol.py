"""uvicorn's protocol on h11, watched. h11 itself limits the size of a head and of trailers while they come."""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightline.serving.protocol import AROUND, BAD, Watched


class WatchedH11(Watched, H11Protocol):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn = h11.Connection(h11.SERVER, self.head_bytes)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self.head_begins()
        reading, before, came = self.in_body, self.cycle, len(self.cycle.body) if self.cycle else 0
        super().data_received(data)
        if self.cycle is not before:
            self.head_ends()
            self.spare = self.head_bytes
        elif reading and self.cycle.response_complete:
            # Thrown away, and limited by its time.
            if not self.in_body:
                self.body_ends()
        elif self.cycle is not None:
            self.spare += (1 + AROUND) * (len(self.cycle.body) - came) - len(data)
            if self.spare < 0:
                self.refuse(BAD)

    @property
    def in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY
