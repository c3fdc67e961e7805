"""Hostile inputs, one after another, in a process that is watched.

Each input must be read, or be refused by a `ReidkitError`: no other exception, no more than `SECONDS` and `MEMORY`, no
file outside its own folder, and nothing executed or unpickled. Input number n of a reader follows from the seed alone.
"""

import multiprocessing
import os
import resource
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.watch import watched

__all__ = ["MEMORY", "PATIENCE", "SECONDS", "Finding", "Tally", "add", "campaign", "check", "distinct", "write_input"]

SECONDS = 5.0
"""Of the processor that reading an input may take."""
MEMORY = 2**30
"""Bytes that reading may add to what the process holds."""

PATIENCE = 30.0  # seconds by the clock until a silent process that waits is taken to hang
_MUCH = 4  # times that, and the seconds of an input, for one that works: others may be at work too
_ADDRESSES = 6 * 2**30  # a safety net: the test measures what is held, but the machine must survive what it finds


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
    """Seconds of the processor for one input, the most."""
    slowest_number: int
    """Which one that was."""
    longest: float
    """Seconds by the clock for one input, the most: others may have been at work too."""
    mebibytes: float
    """Most memory that one input took."""
    findings: list[Finding]


class _Outcome(NamedTuple):
    refused: bool
    seconds: float
    waited: float
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
        if entry.changes is not None and rng.random() < 0.6:
            files[name] = entry.changes(files[name], rng)
        else:
            files[name] = mutate(name, files[name], rng)
    _lay_out(files, folder)
    if disturbed:
        disturb(folder, rng)


def check(reader: str, folder: Path) -> _Outcome:
    """Read an input in this process; what is wrong with that, in words."""
    from reidkit.errors import ReidkitError
    from tests.fuzz.readers import READERS

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start, begun = _memory("VmRSS"), time.process_time(), time.monotonic()
    refused, problem = False, ""
    try:
        with watched(folder) as seen:
            READERS[reader].read(folder)
    except ReidkitError as error:
        refused = True
        if not str(error).strip():
            problem = f"a {type(error).__name__} without a message"
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error)[:200]} {_place(error)}"
    seconds, waited = time.process_time() - start, time.monotonic() - begun
    held = max(0, _memory("VmHWM") - before)
    if not problem and seconds > SECONDS:
        problem = f"{seconds:.1f} s"
    if not problem and held > MEMORY:
        problem = f"{held / 2**20:,.0f} MiB"
    # Not all of a library's work is told to Python.
    strange = [path.name for path in (*folder.parent.iterdir(), *folder.parent.glob("elsewhere/*"))]
    if seen or sorted(strange) != ["elsewhere", "input"]:
        problem = f"something was done outside the folder: {seen or strange}"
    return _Outcome(refused, seconds, waited, held, problem)


def campaign(reader: str, numbers: range, seed: int, folder: Path, keep: Path | None = None) -> Tally:
    """Try some of a reader's inputs in processes of their own, one after another; a finding ends one of those only.

    Args:
        reader: Its name.
        numbers: Which inputs, in steps of 1.
        seed: Of all that is random.
        folder: Where to work; it is emptied.
        keep: Where to copy the inputs that are findings.
    """
    total = Tally(0, 0, 0.0, 0.0, numbers.start, 0.0, 0.0, [])
    number, start = numbers.start, time.monotonic()
    while number < numbers.stop:
        with _worker(reader, range(number, numbers.stop), seed, folder) as (connection, process):
            while number < numbers.stop:
                try:
                    outcome = _wait(connection, process.pid or 0)
                except EOFError:
                    process.join()
                    outcome = _Outcome(False, 0, 0, 0, f"the process died, exit code {process.exitcode}")
                total = add(total, _tally(reader, number, outcome))
                if outcome.problem and keep is not None:
                    _keep(folder / "input", keep / f"{reader.replace(' ', '-')}-{seed}-{number}")
                number += 1
                if outcome.problem:  # the process waits, or is gone: the next one is clean
                    break
    return total._replace(seconds=time.monotonic() - start)


def add(one: Tally, other: Tally) -> Tally:
    """What became of the inputs of two tallies."""
    slower = max(one, other, key=lambda tally: tally.slowest)
    return Tally(
        one.read + other.read,
        one.refused + other.refused,
        one.seconds + other.seconds,
        slower.slowest,
        slower.slowest_number,
        max(one.longest, other.longest),
        max(one.mebibytes, other.mebibytes),
        [*one.findings, *other.findings],
    )


def _tally(reader: str, number: int, outcome: _Outcome) -> Tally:
    """Of one input."""
    findings = [Finding(reader, number, outcome.problem)] if outcome.problem else []
    refused = outcome.refused and not findings
    known = outcome.seconds, number, outcome.waited, outcome.bytes / 2**20
    return Tally(int(not refused and not findings), int(refused), 0.0, *known, findings)


def distinct(findings: list[Finding]) -> Counter[str]:
    """How often each problem was met."""
    return Counter(f"{finding.reader}: {finding.problem}" for finding in findings)


@contextmanager
def _worker(
    reader: str, numbers: range, seed: int, folder: Path
) -> Iterator[tuple[Connection, multiprocessing.process.BaseProcess]]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, reader, numbers, seed, folder))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torch's threads are idle
        process.start()
    theirs.close()
    try:
        yield ours, process
    finally:
        process.kill()
        process.join()
        ours.close()


def _wait(connection: Connection, process: int) -> _Outcome:
    before, begun = _processor_seconds(process), time.monotonic()
    while not connection.poll(PATIENCE):
        worked, waited = _processor_seconds(process) - before, time.monotonic() - begun
        # On a busy machine a process may get little of the processor; one that waits for something gets no more of it.
        if worked > _MUCH * SECONDS or waited > _MUCH * PATIENCE or not _is_at_work(process):
            problem = f"nothing happened for {waited:.0f} s, of which the processor worked {worked:.1f}"
            return _Outcome(False, worked, waited, 0, problem)
    outcome: _Outcome = connection.recv()
    return outcome


def _work(connection: Connection, reader: str, numbers: range, seed: int, folder: Path) -> None:
    """Tell the outcome of each input; after a finding, wait for the end: the input must not be overwritten."""
    import logging

    import torch

    torch.set_num_threads(1)  # those of the parent are not here
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + _ADDRESSES,) * 2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # libraries in C tell of damage there
    _empty(folder)
    _read_valid(reader, folder / "input")
    for number in numbers:
        _empty(folder)
        write_input(reader, number, seed, folder / "input")
        outcome = check(reader, folder / "input")
        connection.send(outcome)
        if outcome.problem:
            time.sleep(PATIENCE)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "input").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")


def _read_valid(reader: str, folder: Path) -> None:
    """What a first call loads, and keeps beside the sources, is no part of reading an input."""
    from tests.fuzz.readers import READERS, seeds_of

    _lay_out(seeds_of(reader), folder)
    with suppress(Exception):  # what is wrong with the reader itself shows at the first input
        READERS[reader].read(folder)


def _lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


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


def _processor_seconds(process: int) -> float:
    """What a process has taken; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_at_work(process: int) -> bool:
    """Whether one of its threads has work to do, or waits for a disk."""
    states = set()
    for file in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):
            states.add(file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0])
    return bool(states & {"R", "D"})


def _memory(name: str) -> int:
    """Bytes, as the system counts them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) * 1024
