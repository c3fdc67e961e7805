"""Requests to stop: SIGTERM from a scheduler, Ctrl-C from a person."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from reidkit.errors import Interrupted

__all__ = ["Interruption", "terminable"]

_NOTICE = b"\nstopping as soon as the work is saved; once more stops at once\n"

_ECHO_SECONDS = 2.0
"""Time in which a second signal under torchrun is the first again: schedulers send it to every process, and torchrun
passes on its own."""

Handler = Callable[[int, FrameType | None], None]


class Interruption:
    """Notes the first SIGTERM or Ctrl-C, so that the loop can save its work; a second one has its usual effect.

    ```
    with Interruption() as interruption:
        for step in steps:
            ...
            if interruption.requested:
                save()
                interruption.stop("epoch 3 is saved up to step 120 of 200")
    ```

    Outside the main thread, where Python takes no signals, it notes nothing. Signals that the process ignores (under
    `nohup` and `&`) stay ignored.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._signal: signal.Signals | None = None
        self._before: dict[int, Any] = {}
        self._asked_at = 0.0

    @property
    def requested(self) -> bool:
        """Whether the work is to be saved and stopped."""
        return self._signal is not None

    def stop(self, saved: str) -> NoReturn:
        """End the loop, once its work is saved.

        Args:
            saved: What was saved, for the user.

        Raises:
            Interrupted: Always.
        """
        raise Interrupted(self._signal or signal.SIGINT, saved)

    def __enter__(self) -> "Interruption":
        self._before = _install(self._note, (signal.SIGTERM, signal.SIGINT))
        return self

    def __exit__(self, *_: object) -> None:
        _restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked process has nothing to save
            _take_usual_effect(number, self._before)
        elif not self.requested:
            self._signal, self._asked_at = signal.Signals(number), time.monotonic()
            with suppress(OSError):  # no logging: the handler may have interrupted it
                os.write(2, _NOTICE)
        elif "TORCHELASTIC_RUN_ID" not in os.environ or time.monotonic() - self._asked_at >= _ECHO_SECONDS:
            _take_usual_effect(number, self._before)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a block by an exception, as Ctrl-C does, so that files and terminal are left in order.

    Raises:
        Interrupted: SIGTERM came.
    """
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Interrupted(number)
        _take_usual_effect(number, before)

    before = _install(end, (signal.SIGTERM,))
    try:
        yield
    finally:
        _restore(before)


def _install(handler: Handler, numbers: Sequence[signal.Signals]) -> dict[int, Any]:
    """Handle signals, unless they are ignored; return the handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in taken}


def _take_usual_effect(number: int, before: dict[int, Any]) -> None:
    _restore(before)
    signal.raise_signal(number)


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler or signal.SIG_DFL)  # None: not set from Python
