"""Memory that several threads share: who would take too much waits until others have given theirs back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ByteBudget"]


class ByteBudget:
    """Bytes that all threads together may hold at once.

    Args:
      total: of them. Whoever asks for more is served alone.
    """

    def __init__(self, total: int):
        self._total, self._free = total, total
        self._changed = threading.Condition()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Waits until so many bytes are free, and holds them. A thread that holds some must not ask for more."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: amount <= self._free)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
