"""What checkpoints may hold beside tensors, rebuilt as plain Python values.

torch's restricted unpickler calls only what is on a list. Published checkpoints name argparse's and numpy's classes; in
their place the list holds the small ones below. numpy's own would not be safe: a forged dtype makes a pointer of a
file's bytes.
"""

import re
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np

__all__ = ["STAND_INS"]


class _Arguments(dict[str, Any]):
    """Stands in for `argparse.Namespace`: its attributes, as a dict."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class _DType:
    """Stands in for `numpy.dtype`: a number's code and byte order, nothing else."""

    def __init__(self, code: str, *_: object) -> None:
        if re.fullmatch(r"[<>=|]?[biuf][1248]", code) is None:
            raise UnpicklingError(f"numpy.dtype({code!r}) is not that of a number")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, *_ = state
        self.__init__(f"{byte_order}{self.code[-2:]}")  # type: ignore[misc]


class _Array(list[Any]):
    """Stands in for `numpy.ndarray`: its values, as nested lists."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, data = state
        values = np.frombuffer(data, dtype=dtype.code).reshape(shape, order="F" if fortran_order else "C")
        self[:] = np.atleast_1d(values).tolist()


def _empty_array(*_: object) -> _Array:
    """Stand in for numpy's `_reconstruct`, whose result receives its values afterwards."""
    return _Array()


def _number(dtype: _DType, data: bytes) -> float:
    """Stand in for numpy's `scalar`: a Python number."""
    number: float = np.frombuffer(data, dtype=dtype.code, count=1)[0].item()
    return number


STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Arguments, "argparse.Namespace"),
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    # numpy 2 renamed the module; files hold either name.
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
"""What `torch.serialization.safe_globals` receives: the stand-in and the name that it answers to."""
