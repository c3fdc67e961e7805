import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.backbones import read_checkpoint
from reidkit.errors import CheckpointError


class _Pickled:
    """Pickles as a call of `function`, then of the result's `__setstate__`."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def _read(tmp_path: Path, value: Any) -> Any:
    torch.save({"value": value}, tmp_path / "file.pth")
    return read_checkpoint(tmp_path / "file.pth")["value"]


@pytest.mark.parametrize("code", ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", ">i4", ">f4"])
def test_numbers_of_every_kind(tmp_path: Path, code: str) -> None:
    number = np.array([1], dtype=code)[0]
    assert _read(tmp_path, number) == number
    assert _read(tmp_path, np.array([[1, 0]], dtype=code)) == [[1, 0]]


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (_Pickled(np.dtype, ("V8", False, True)), r"numpy.dtype\('V8'\) is not that of a number"),
        (_Pickled(np.dtype, ("O", False, True)), r"numpy.dtype\('O'\)"),
        (_Pickled(np.dtype, ("f8", False, True), (3, "O,", None, None, None, -1, -1, 0)), r"numpy.dtype\('O,f8'\)"),
        (_Pickled(np.dtype, ("f8,O", False, True)), r"numpy.dtype\('f8,O'\)"),
    ],
)
def test_forged_dtypes_that_would_make_pointers_are_refused(tmp_path: Path, dtype: Any, message: str) -> None:
    scalar = type(np.float64(1.0)).__reduce__(np.float64(1.0))[0]
    with pytest.raises(CheckpointError, match=message):
        _read(tmp_path, _Pickled(scalar, (dtype, b"A" * 8)))


def test_array_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path: Path) -> None:
    reduced: Any = np.zeros(3).__reduce__()
    function, arguments, state = reduced
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        _read(tmp_path, _Pickled(function, arguments, (state[0], (1000,), *state[2:])))


def test_attributes_of_a_namespace_stay_data(tmp_path: Path) -> None:
    attributes = {"__class__": "x", "__setstate__": 3, "keys": 4}
    assert _read(tmp_path, _Pickled(argparse.Namespace, (), attributes)) == attributes
