"""Changes that a process makes outside of a folder, by Python's audit events (PEP 578)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["watched"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FOLLOWING = ("os.chmod", "os.truncate", "os.utime")
"""Events on the file that a link leads to; all else is done to the link."""
_CHANGES = {
    **dict.fromkeys((*_FOLLOWING, "os.mkdir", "os.remove", "os.rmdir"), (0,)),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
}
"""Event -> which of its arguments are paths that are written."""
_RUNS = (
    *("os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.find_class", "subprocess.", "urllib."),
    *("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"),
)
"""Beginnings of events that no reader of files causes."""


class _Watch:
    """The one hook of a process, which cannot be taken away again; it sleeps most of the time."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        self.installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what is forbidden."""
        if not self.folder:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self._note(event, arguments[0], follows=not arguments[2] & os.O_NOFOLLOW)
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                self._note(event, arguments[place], arguments[-1], follows=event in _FOLLOWING)
        elif event.startswith(_RUNS):
            self.seen.append(f"{event} {arguments!r:.100}")

    def _note(self, event: str, path: Any, descriptor: Any = -1, *, follows: bool) -> None:
        if isinstance(path, int):
            path = f"/proc/self/fd/{path}"
        elif isinstance(descriptor, int) and descriptor >= 0:  # relative to an open folder
            path = os.path.join(f"/proc/self/fd/{descriptor}", os.fsdecode(path))
        path = os.path.abspath(os.fsdecode(path))
        if follows:
            path = os.path.realpath(path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        # Python and numba keep what they have compiled beside the sources.
        if not f"{path}/".startswith(f"{self.folder}/") and "__pycache__" not in path and path != os.devnull:
            self.seen.append(f"{event} {path}")


_WATCH = _Watch()


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Note what is written, moved or removed outside of a folder, any program, unpickled class and connection."""
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _WATCH.installed = True
    _WATCH.seen = []
    _WATCH.folder = os.path.realpath(folder)
    try:
        yield _WATCH.seen
    finally:
        _WATCH.folder = ""
