"""Hostile inputs, one after another, in a process that is watched.

Each input must be read, or be refused by a `ReidkitError`: no other exception, no more than `SECONDS` and `MEMORY`, no
file outside its own folder, and nothing executed. Input number n of a reader follows from the seed alone.
"""

import multiprocessing
import os
import resource
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

__all__ = ["MEMORY", "PATIENCE", "SECONDS", "Finding", "Tally", "campaign", "check", "distinct", "write_input"]

SECONDS = 5.0
"""Of the processor that reading an input may take."""
MEMORY = 2**30
"""Bytes that reading may add to what the process holds."""

PATIENCE = 30.0  # seconds by the clock until a silent process is taken to hang: others may be at work too
_ADDRESSES = 6 * 2**30  # a safety net: the test measures what is held, but the machine must survive what it finds
_CANARY = "canary"


class Finding(NamedTuple):
    """An input that was neither read nor refused as it should be."""

    reader: str
    number: int
    problem: str


class Tally(NamedTuple):
    """What became of the inputs of a reader."""

    read: int
    refused: int
    seconds: float
    slowest: float
    """Seconds of the processor for one input."""
    mebibytes: float
    """Most memory that one input took."""
    findings: list[Finding]


class _Outcome(NamedTuple):
    refused: bool
    seconds: float
    bytes: int
    problem: str


def write_input(reader: str, number: int, seed: int, folder: Path) -> None:
    """Write an input into an empty folder: that of the reader, with something in it changed."""
    from tests.fuzz.mutations import disturb, mutate
    from tests.fuzz.readers import READERS, seeds_of

    rng = Random(f"{seed} {reader} {number}")
    entry = READERS[reader]
    files = dict(seeds_of(reader))
    disturbed = entry.folder and rng.random() < 0.5
    if not disturbed:
        name = rng.choice([name for name in files if fnmatch(name, entry.targets)])
        files[name] = mutate(name, files[name], rng)
        if entry.seals is not None and rng.random() < 0.7:
            files[name] = entry.seals(files[name])
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if disturbed:
        disturb(folder, rng)


def check(reader: str, folder: Path) -> _Outcome:
    """Read an input in this process; what is wrong with that, in words."""
    from reidkit.errors import ReidkitError
    from tests.fuzz.readers import READERS

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = _memory("VmRSS"), time.process_time()
    refused, problem = False, ""
    try:
        READERS[reader].read(folder)
    except ReidkitError as error:
        refused = True
        if not str(error).strip():
            problem = f"a {type(error).__name__} without a message"
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error)[:200]} {_place(error)}"
    seconds, held = time.process_time() - start, max(0, _memory("VmHWM") - before)
    if not problem and seconds > SECONDS:
        problem = f"{seconds:.1f} s"
    if not problem and held > MEMORY:
        problem = f"{held / 2**20:,.0f} MiB"
    strange = [path.name for path in (*folder.parent.iterdir(), *folder.parent.glob("elsewhere/*"))]
    if sorted(strange) != ["elsewhere", "input"]:
        problem = f"something was written outside the folder: {strange}"
    return _Outcome(refused, seconds, held, problem)


def campaign(reader: str, count: int, seed: int, folder: Path, keep: Path | None = None) -> Tally:
    """Try inputs 0 to `count` of a reader in processes of their own, one after another.

    Args:
        reader: Its name.
        count: How many inputs.
        seed: Of all that is random.
        folder: Where to work; it is emptied.
        keep: Where to copy the inputs that are findings.
    """
    findings: list[Finding] = []
    read = refused = number = 0
    slowest, most, start = 0.0, 0, time.monotonic()
    while number < count:
        with _worker(reader, number, count, seed, folder) as (connection, process):
            while number < count:
                try:
                    outcome = _wait(connection)
                except EOFError:
                    process.join()
                    outcome = _Outcome(False, 0, 0, f"the process died, exit code {process.exitcode}")
                refused += outcome.refused
                read += not outcome.refused and not outcome.problem
                slowest, most = max(slowest, outcome.seconds), max(most, outcome.bytes)
                if outcome.problem:
                    findings.append(Finding(reader, number, outcome.problem))
                    if keep is not None:
                        _keep(folder / "input", keep / f"{reader.replace(' ', '-')}-{seed}-{number}")
                number += 1
                if outcome.problem:  # the process waits, or is gone: the next one is clean
                    break
    return Tally(read, refused, time.monotonic() - start, slowest, most / 2**20, findings)


def distinct(findings: list[Finding]) -> Counter[str]:
    """How often each problem was met."""
    return Counter(f"{finding.reader}: {finding.problem}" for finding in findings)


@contextmanager
def _worker(
    reader: str, first: int, count: int, seed: int, folder: Path
) -> Iterator[tuple[Connection, multiprocessing.process.BaseProcess]]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, reader, first, count, seed, folder))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torch's threads are idle
        process.start()
    theirs.close()
    try:
        yield ours, process
    finally:
        process.kill()
        process.join()
        ours.close()


def _wait(connection: Connection) -> _Outcome:
    if not connection.poll(PATIENCE):
        return _Outcome(False, PATIENCE, 0, f"nothing happened for {PATIENCE:g} s")
    outcome: _Outcome = connection.recv()
    return outcome


def _work(connection: Connection, reader: str, first: int, count: int, seed: int, folder: Path) -> None:
    """Tell the outcome of each input; after a finding, wait for the end: the input must not be overwritten."""
    import logging

    import torch

    torch.set_num_threads(1)  # those of the parent are not here
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + _ADDRESSES,) * 2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # libraries in C tell of damage there
    for number in range(first, count):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "input").mkdir(parents=True)
        (folder / "elsewhere").mkdir()
        os.chdir(folder / "elsewhere")
        write_input(reader, number, seed, folder / "input")
        outcome = check(reader, folder / "input")
        connection.send(outcome)
        if outcome.problem:
            time.sleep(PATIENCE)


def _keep(folder: Path, place: Path) -> None:
    """Copy what can be copied of an input: a pipe is not read, a link is not followed."""
    shutil.copytree(folder, place, symlinks=True, dirs_exist_ok=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    if Path(source).is_file():
        shutil.copyfile(source, target)


def _place(error: BaseException) -> str:
    """The line of ours where an exception came from."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/reidkit/" in name and "site-packages" not in name:
            place = f"({Path(name).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _memory(name: str) -> int:
    """Bytes, as the system counts them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) * 1024
