"""Ending what the main thread waits for, from another thread, with an error that says why.

`ray.get` can only be broken off by a signal, and only by one whose handler raises KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNAL = signal.SIGUSR1


class Interrupt:
    """Give it to the threads that may have to end the run."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._main = threading.main_thread()

    def raise_in_main(self, error: Exception) -> None:
        """Have `error` raised where the main thread is; the first one counts. From any other thread."""
        if self.error is None:
            self.error = error
            assert self._main.ident is not None
            signal.pthread_kill(self._main.ident, _SIGNAL)


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """In the main thread: its block may be ended by `raise_in_main`."""
    interrupt = Interrupt()
    before = signal.signal(_SIGNAL, signal.default_int_handler)
    try:
        yield interrupt
    except KeyboardInterrupt:
        if interrupt.error is None:
            raise  # Ctrl-C
        raise interrupt.error from None
    finally:
        signal.signal(_SIGNAL, before)
