"""Damaged inputs to every reader of files: checkpoints, lists, settings, tables, features, images, work folders.

    python -m benchmarks.fuzz [--inputs 100000] [--seed 0] [--readers NAME ...] [--least 1000] [--processes 2]
                              [--keep FOLDER] [--output FILE.json]

Each input is a valid one with changes: bits, lengths, types, counts, members of archives (with right checksums), values
of a checkpoint, pipes, loops and odd names in folders. It must be read or be refused by a `ReidkitError` within 5 s of
the processor and 1 GiB, write nothing outside its folder and execute nothing. Inputs follow from the seed and the
reader alone; those that are findings are copied to --keep. `make test` runs a few thousand of them. Exit code 1 if
anything was found.

A finding stops only the process that met it. With --output, finished parts are written to FILE.json.partial: the same
command goes on after it was stopped. `python -m benchmarks.fuzz --readers NAME --numbers FIRST LAST` repeats some.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.campaign import Finding, Tally, add, campaign, distinct
from tests.fuzz.readers import READERS

_SHOWN = 8
_PART = 500  # inputs of a part: what a stop costs
_COLUMNS = ("inputs", "read", "refused", "seconds", "slowest", "longest", "MiB", "findings")


class Part(NamedTuple):
    """Some inputs of a reader, which one process tries."""

    reader: str
    first: int
    stop: int


def counts(inputs: int, least: int, readers: list[str]) -> dict[str, int]:
    """Number of inputs of each reader: at least `least`, the rest by their shares."""
    total = sum(READERS[reader].share for reader in readers)
    free = max(0, inputs - least * len(readers))
    return {reader: least + round(free * READERS[reader].share / total) for reader in readers}


def parts_of(wanted: dict[str, range]) -> list[Part]:
    """All inputs in parts."""
    return [
        Part(reader, first, min(first + _PART, numbers.stop))
        for reader, numbers in wanted.items()
        for first in range(numbers.start, numbers.stop, _PART)
    ]


def attempt(part: Part, seed: int, folder: Path, keep: Path | None) -> Tally:
    """Try a part; a failure of the campaign itself is a finding too, and stops no other part."""
    work = folder / f"{list(READERS).index(part.reader)}-{part.first}"
    try:
        return campaign(part.reader, range(part.first, part.stop), seed, work, keep)
    except Exception as error:
        problem = f"the campaign failed from here to {part.stop}: {type(error).__name__}: {error}"
        return Tally(0, 0, 0.0, 0.0, part.first, 0.0, 0.0, [Finding(part.reader, part.first, problem)])


def row_of(tally: Tally) -> dict[str, object]:
    """Row of the result."""
    return {
        "inputs": tally.read + tally.refused + len(tally.findings),
        "read": tally.read,
        "refused": tally.refused,
        "seconds": round(tally.seconds, 1),
        "slowest": round(tally.slowest, 3),
        "slowest_input": tally.slowest_number,
        "longest": round(tally.longest, 3),
        "MiB": round(tally.mebibytes, 1),
        "findings": len(tally.findings),
    }


def finished(notes: Path | None, seed: int) -> dict[Part, Tally]:
    """Results of an earlier command with the same seed; a line that a kill cut is left out."""
    done: dict[Part, Tally] = {}
    lines = notes.read_text(encoding="utf-8").split("\n") if notes and notes.exists() else []
    for line in lines:
        try:
            part, of_seed, tally = json.loads(line)
        except ValueError:
            continue
        if of_seed == seed:
            done[Part(*part)] = Tally._make([*tally[:-1], [Finding(*finding) for finding in tally[-1]]])
    return done


def work_through(
    parts: list[Part], seed: int, processes: int, keep: Path | None, notes: Path | None
) -> Iterator[tuple[Part, Tally]]:
    """Try all parts, in several processes, and write down each."""
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        running: dict[Future[Tally], Part] = {
            pool.submit(attempt, part, seed, Path(folder), keep): part for part in parts
        }
        for future in as_completed(running):
            part, tally = running[future], future.result()
            if notes is not None:
                with notes.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([part, seed, tally]) + "\n")
            yield part, tally


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description="damaged inputs")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--least", type=int, default=1000, help="inputs of each reader, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="*", choices=list(READERS), default=list(READERS))
    parser.add_argument("--numbers", nargs=2, type=int, metavar=("FIRST", "LAST"), help="just these of each reader")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are findings")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def wanted_inputs(options: argparse.Namespace) -> dict[str, range]:
    """Numbers of the inputs of each reader."""
    if options.numbers:
        return dict.fromkeys(options.readers, range(options.numbers[0], options.numbers[1] + 1))
    return {name: range(count) for name, count in counts(options.inputs, options.least, options.readers).items()}


def show(reader: str, tally: Tally) -> None:
    """Print a row of the table, and the findings."""
    row = row_of(tally)
    print(f"{reader:<24}" + "".join(f"{row[column]!s:>10}" for column in _COLUMNS), flush=True)
    for problem, times in distinct(tally.findings).most_common(_SHOWN):
        print(f"    {times} x {problem}", flush=True)


def main() -> None:
    """Try them and print a table."""
    options, start = arguments(), time.monotonic()
    parts = parts_of(wanted_inputs(options))
    notes = options.output.with_name(f"{options.output.name}.partial") if options.output else None
    done = {part: tally for part, tally in finished(notes, options.seed).items() if part in parts}
    left = {reader: sum(part.reader == reader for part in parts if part not in done) for reader in options.readers}
    totals = {reader: Tally(0, 0, 0.0, 0.0, 0, 0.0, 0.0, []) for reader in options.readers}
    for part, tally in done.items():
        totals[part.reader] = add(totals[part.reader], tally)
    print(f"{'reader':<24}" + "".join(f"{column:>10}" for column in _COLUMNS), flush=True)
    for reader in (reader for reader, count in left.items() if not count):
        show(reader, totals[reader])
    undone = [part for part in parts if part not in done]
    for part, tally in work_through(undone, options.seed, options.processes, options.keep, notes):
        totals[part.reader] = add(totals[part.reader], tally)
        left[part.reader] -= 1
        if not left[part.reader]:
            show(part.reader, totals[part.reader])
    findings = [finding._asdict() for tally in totals.values() for finding in tally.findings]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {options.processes} processes",
        "seed": options.seed,
        "inputs": sum(tally.read + tally.refused + len(tally.findings) for tally in totals.values()),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "processor_minutes": round(sum(tally.seconds for tally in totals.values()) / 60, 1),
        "readers": {reader: row_of(tally) for reader, tally in totals.items()},
        "findings": findings,
    }
    print(f"{report['inputs']} inputs, {report['minutes']} minutes, {len(findings)} findings")
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if notes:
        notes.unlink(missing_ok=True)
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
