"""Token vectors of texts that were encoded lately, bounded by bytes; the least recently used goes first.

Keyed by a digest of what the graph gets, so it holds no text. Reranking sees the same passages again and
again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from latebolt.arrays import Float32
from latebolt.encoder.text import TokenIds

_ENTRY_BYTES: Final = 300  # of Python's objects around one array


class VectorCache:
    """Digest -> float32 [n, dim]. Thread-safe.

    Args:
        most_bytes: 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._held: OrderedDict[bytes, Float32] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def key(tokens: TokenIds, kind: str, dim: int) -> bytes:
        """What finds the vectors of a tokenised text again."""
        digest = hashlib.blake2b(tokens.ids.tobytes(), digest_size=16)
        digest.update(f"{kind} {dim} {tokens.attended} {tokens.cuts}".encode())
        return digest.digest()

    def get(self, key: bytes) -> Float32 | None:
        """The vectors, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
        return found

    def put(self, key: bytes, vectors: Float32) -> None:
        """Keep vectors; what is larger than a tenth of the cache would drive too much else out."""
        size = vectors.nbytes + _ENTRY_BYTES
        if size * 10 > self.most_bytes:
            return
        with self._lock:
            if key in self._held:
                return
            self._held[key] = vectors
            self.bytes += size
            while self.bytes > self.most_bytes:
                _, old = self._held.popitem(last=False)
                self.bytes -= old.nbytes + _ENTRY_BYTES
