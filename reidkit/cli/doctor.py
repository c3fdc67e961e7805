"""`reidkit doctor`."""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from reidkit.cli.options import data_root_option

__all__ = ["doctor"]

_CACHE_GIB, _WORK_GIB, _SHARED_GIB = 5, 5, 1
_ON_GPUS = "several processes on GPUs need more:"


class _Finding(NamedTuple):
    """Result of one check."""

    name: str
    state: Literal["fine", "note", "problem"]
    """A note may affect training, a problem will."""
    found: str
    remedy: str = ""


@click.command(
    epilog="""\b
Examples:
  reidkit doctor                       what is found, and what to do about it
  reidkit doctor --json > report.json  the same for a bug report
"""
)
@data_root_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def doctor(ctx: click.Context, data_root: Path | None, as_json: bool) -> None:
    """Check versions, devices, precision, disks and data; a bug report needs the output.

    The exit code is 1 if a problem will stop training.
    """
    from reidkit.runs import environment

    findings = list(_examine(data_root))
    facts = {**environment(), "findings": [finding._asdict() for finding in findings]}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _show(facts, findings)
    ctx.exit(1 if any(finding.state == "problem" for finding in findings) else 0)


def _examine(data_root: Path | None) -> Iterator[_Finding]:
    from reidkit.datasets import cache_folder

    yield _versions()
    yield from _devices()
    if importlib.util.find_spec("faiss") is None:
        yield _Finding("faiss", "note", "not installed", "optional: it may search faster, with the same result")
    else:
        yield _Finding("faiss", "fine", "installed")
    yield _disk("cache", cache_folder(), _CACHE_GIB, "set REIDKIT_CACHE to a folder on a larger disk")
    yield _disk("working folder", Path.cwd(), _WORK_GIB, "run folders are made here, or where --output says")
    yield _shared_memory(Path("/dev/shm"))
    yield _data(data_root)


def _versions() -> _Finding:
    """Compare the installed packages with the requirements in reidkit's metadata."""
    from packaging.requirements import Requirement

    wrong = []
    for line in metadata.requires("reidkit") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version} is not {wanted.specifier}")
    if wrong:
        return _Finding("packages", "problem", "; ".join(wrong), "install reidkit again: pip install --upgrade reidkit")
    return _Finding("packages", "fine", "all as required")


def _devices() -> Iterator[_Finding]:
    """List devices, their memory, and the precision that `auto` chooses."""
    import psutil
    import torch

    from reidkit.cpu import cpu_has_bf16
    from reidkit.loop import resolve_precision

    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory()
    bf16 = "multiplies bf16 in hardware" if cpu_has_bf16() else "has no bf16 in hardware"
    yield _Finding("processor", "fine", f"{cores} of {os.cpu_count()} cores for this process; it {bf16}")
    yield _Finding("memory", "fine", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        found = f"none ({f'PyTorch is built for CUDA {built}' if built else 'PyTorch is built without CUDA'})"
        yield _Finding("CUDA devices", "note", found, "training runs on the CPU; fine for small sets only")
    for index in range(torch.cuda.device_count()):
        free, total = (f"{size / 2**30:.0f}" for size in torch.cuda.mem_get_info(index))
        major, minor = torch.cuda.get_device_capability(index)
        found = f"{torch.cuda.get_device_name(index)}, {free} of {total} GiB free, compute capability {major}.{minor}"
        yield _Finding(f"cuda:{index}", "fine", found)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    yield _Finding("precision by default", "fine", f"{resolve_precision(kind, 'auto')} on {kind}")


def _disk(name: str, folder: Path, wanted: int, remedy: str) -> _Finding:
    """Check that a folder, or its first parent that exists, can be written and has some GiB free."""
    nearest = next(parent for parent in [folder, *folder.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(nearest).free / 2**30
    found = f"{folder}, {free:.1f} GiB free"
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        return _Finding(name, "problem", f"{folder} cannot be written", remedy)
    return _Finding(name, "note" if free < wanted else "fine", found, remedy if free < wanted else "")


def _shared_memory(folder: Path) -> _Finding:
    """Check the memory through which processes of one machine exchange gradients."""
    if not folder.is_dir():
        return _Finding("shared memory", "note", f"there is no {folder}", f"{_ON_GPUS} set NCCL_SHM_DISABLE=1")
    size = shutil.disk_usage(folder).total / 2**30
    if size < _SHARED_GIB:
        remedy = f"{_ON_GPUS} start the container with --shm-size=1g, or set NCCL_SHM_DISABLE=1"
        return _Finding("shared memory", "note", f"{size:.2f} GiB at {folder}", remedy)
    return _Finding("shared memory", "fine", f"{size:.1f} GiB at {folder}")


def _data(data_root: Path | None) -> _Finding:
    from reidkit.datasets import CATALOG, default_data_root, find_roots

    root = data_root or default_data_root()
    if not root.is_dir():
        remedy = "make it, or name it by --data-root or REIDKIT_DATA; data sets can be given by path, too"
        return _Finding("data root", "note", f"{root} does not exist", remedy)
    names = [name for name, entry in CATALOG.items() if find_roots(entry, root)]
    if not names:
        return _Finding("data root", "note", f"{root} has no known data set", "see `reidkit data list`")
    return _Finding("data root", "fine", f"{root} with {', '.join(names)}")


def _show(facts: dict[str, Any], findings: list[_Finding]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from reidkit.cli.console import show_table

    wide = (Column(heading, overflow="fold") for heading in ("found", "what to do"))
    found = Table(Column("", no_wrap=True), *wide, title="this machine")
    styles = {"fine": "green", "note": "yellow", "problem": "red"}
    for finding in findings:
        heading = Text(finding.name, style=styles[finding.state])
        advice = f"{finding.state}: {finding.remedy}" if finding.remedy else ""
        found.add_row(heading, Text(finding.found), Text(advice))
    show_table(found)
    report = Table("what", "version", title="for a bug report (--json has it all)")
    for name in ("reidkit", "python", "platform", "processor", "threads"):
        report.add_row(name, str(facts[name]))
    for package, version in facts["packages"].items():
        report.add_row(package, version)
    show_table(report)
