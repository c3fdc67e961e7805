import json
import os
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from reidkit.cli import cli
from reidkit.cli.doctor import _disk, _shared_memory
from tests.injected_faults import powerless, public

__all__ = ["public"]

Usage = namedtuple("Usage", "total used free")


def examined(*options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and findings by their name."""
    done = CliRunner().invoke(cli, ["doctor", "--json", *options])
    facts = json.loads(done.output)
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0] or "+" in facts["packages"]["torch"]
    return done.exit_code, {finding["name"]: finding for finding in facts["findings"]}


def test_what_a_bug_report_needs_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["doctor"])
    assert done.exit_code == 0
    words = (
        "this machine",
        "packages",
        "processor",
        "precision",
        "memory",
        "faiss",
        "cache",
        "shared memory",
        "data root",
    )
    assert [word for word in (*words, "torch", "numba", "python") if word not in done.output] == []
    code, findings = examined()
    assert code == 0
    assert findings["packages"]["found"] == "all as required"
    assert findings["data root"]["found"] == "data does not exist"
    assert "REIDKIT_DATA" in findings["data root"]["remedy"]


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def pretend(name: str) -> str:
        if name == "numba":
            raise metadata.PackageNotFoundError(name)
        return "2.1.0+cu118" if name == "torch" else version(name)

    monkeypatch.setattr(metadata, "version", pretend)
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    assert done.exit_code == 1
    (packages,) = (finding for finding in json.loads(done.output)["findings"] if finding["name"] == "packages")
    assert packages["state"] == "problem"
    assert "numba is missing" in packages["found"]
    assert "torch 2.1.0+cu118 is not >=2.6" in packages["found"]


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda index: "H200",
        "mem_get_info": lambda index: (100 * 2**30, 139 * 2**30),
        "get_device_capability": lambda index: (9, 0),
        "is_bf16_supported": lambda **options: True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    _, findings = examined()
    assert findings["cuda:0"]["found"] == "H200, 100 of 139 GiB free, compute capability 9.0"
    assert findings["precision by default"]["found"] == "bf16 on cuda"
    assert "CUDA devices" not in findings


def test_data_sets_are_found(tmp_path: Path) -> None:
    _, findings = examined("--data-root", str(tmp_path))
    assert findings["data root"]["state"] == "note"
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "Market-1501-v15.09.15" / split).mkdir(parents=True)
    _, findings = examined("--data-root", str(tmp_path))
    assert findings["data root"]["found"] == f"{tmp_path} with market"


def test_small_disks_and_small_shared_memory_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "not" / "yet"
    assert _disk("cache", gone, 0, "elsewhere").state == "fine"
    assert _shared_memory(tmp_path / "none").state == "note"
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(2**26, 0, 2**30))
    assert _disk("cache", gone, 5, "elsewhere")[1:] == ("note", f"{gone}, 1.0 GiB free", "elsewhere")
    assert _shared_memory(tmp_path)[1:3] == ("note", f"0.06 GiB at {tmp_path}")


def test_a_folder_that_cannot_be_written_is_a_problem(public: Path) -> None:
    public.chmod(0o555)
    with powerless():
        assert not os.access(public, os.W_OK, effective_ids=True)
        assert _disk("cache", public / "new", 5, "elsewhere")[1:] == (
            "problem",
            f"{public / 'new'} cannot be written",
            "elsewhere",
        )
