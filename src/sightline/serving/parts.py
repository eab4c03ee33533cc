"""The parts of a multipart body counted as they stream by (RFC 2046, RFC 7578), before any parser that keeps them has seen them."""

from __future__ import annotations

import re

from sightline.serving.answer import Answer

# Parts besides files: the page and the API send none.
OTHER_PARTS = 16
MOST_HEAD_BYTES = 4096

# Narrower than the RFCs, so that no parser can read another boundary out of the same header.
_BOUNDARY = re.compile(r"""boundary=(?:"([0-9A-Za-z'()+_,./:=?-]{1,70})"|([0-9A-Za-z'+_./:=?-]{1,70}))\s*(?:;|$)""", re.IGNORECASE)
_FILE = re.compile(rb"""content-disposition:[^\r\n]*;\s*filename\*?\s*=""", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes | Answer | None:
    """The boundary in a Content-Type of several parts, None where it is another type, a refusal where it has none or several."""
    if not content_type.lower().lstrip().startswith("multipart/"):
        return None
    found = _BOUNDARY.search(content_type)
    # A browser's boundary has the word in it; beside it the word must not come again.
    if found is None or "boundary" in (content_type[: found.start()] + content_type[found.end() :]).lower():
        return Answer(400, "The Content-Type 'multipart/form-data' needs one boundary.")
    return str(found[1] or found[2]).encode("latin-1")


class Parts:
    """The parts seen so far of one body. Holds no more of it than the head of one part.

    Whatever may be a delimiter is taken for one, and what follows up to an empty line for a head: so no parser sees a part that was not
    counted, though some may be counted that are none (a boundary inside an image, for which clients look beforehand).
    """

    def __init__(self, boundary: bytes, most_files: int) -> None:
        self.delimiter = b"--" + boundary
        self.most_files = most_files
        self.files = self.parts = 0
        self._held = bytearray()
        self._in_head = False

    def problem(self, chunk: bytes) -> Answer | None:
        """Why a body that goes on with this chunk is refused, or None."""
        self._held += chunk
        while True:
            if self._in_head:
                end = self._held.find(b"\r\n\r\n")
                if max(end, len(self._held) if end < 0 else 0) > MOST_HEAD_BYTES:
                    return Answer(400, f"A part of the request has more than {MOST_HEAD_BYTES} bytes of headers.")
                if end < 0:
                    return None
                if refusal := self._counted(bytes(self._held[:end])):
                    return refusal
                del self._held[: end + 4]
                self._in_head = False
            else:
                start = self._held.find(self.delimiter)
                if start < 0:
                    # The delimiter may have begun at the end of this chunk.
                    del self._held[: max(0, len(self._held) - len(self.delimiter) + 1)]
                    return None
                del self._held[: start + len(self.delimiter)]
                self._in_head = True

    def _counted(self, head: bytes) -> Answer | None:
        self.parts += 1
        self.files += bool(_FILE.search(head))
        if self.files > self.most_files:
            return Answer(413, f"The request has more than {self.most_files} files, which --max-files allows.")
        if self.parts > self.most_files + OTHER_PARTS:
            return Answer(400, f"The request has more than {self.most_files + OTHER_PARTS} parts.")
        return None
