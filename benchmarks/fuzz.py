"""Hostile inputs to every place that reads what others wrote: checkpoints, lists, settings, tables, features, images.

    python -m benchmarks.fuzz [--inputs 100000] [--seed 0] [--readers NAME ...] [--least 1000] [--keep FOLDER]
                              [--output FILE.json]

Each input is a valid one that was changed: bits, lengths, types, counts, members of archives (with checksums that are
right again), pipes, loops and odd names in folders. It must be read or be refused by a `ReidkitError` within 5 s of the
processor and 1 GiB, write nothing outside its folder and execute nothing. Inputs follow from the seed and the reader
alone; those that are findings are copied to --keep. `make test` runs a few thousand of them. Exit code 1 if anything
was found.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.campaign import Tally, campaign, distinct
from tests.fuzz.readers import READERS

_SHOWN = 8


def counts(inputs: int, least: int, readers: list[str]) -> dict[str, int]:
    """How many inputs each reader gets: at least `least`, the rest by their shares."""
    total = sum(READERS[reader].share for reader in readers)
    free = max(0, inputs - least * len(readers))
    return {reader: least + round(free * READERS[reader].share / total) for reader in readers}


def figures(tally: Tally) -> dict[str, object]:
    """A row of the result."""
    return {
        "inputs": tally.read + tally.refused + len(tally.findings),
        "read": tally.read,
        "refused": tally.refused,
        "seconds": round(tally.seconds, 1),
        "slowest": round(tally.slowest, 3),
        "MiB": round(tally.mebibytes, 1),
        "findings": len(tally.findings),
    }


def main() -> None:
    """Try them and print a table."""
    parser = argparse.ArgumentParser(description="hostile inputs")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--least", type=int, default=1000, help="inputs of each reader, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="*", choices=list(READERS), default=list(READERS))
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are findings")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    start, rows, problems = time.monotonic(), {}, []
    columns = ("inputs", "read", "refused", "seconds", "slowest", "MiB", "findings")
    print(f"{'reader':<24}" + "".join(f"{column:>10}" for column in columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for reader, count in counts(options.inputs, options.least, options.readers).items():
            tally = campaign(reader, count, options.seed, Path(folder) / "work", options.keep)
            rows[reader] = figures(tally)
            print(f"{reader:<24}" + "".join(f"{value!s:>10}" for value in rows[reader].values()), flush=True)
            for problem, times in distinct(tally.findings).most_common(_SHOWN):
                print(f"    {times} x {problem}", flush=True)
            problems += [finding._asdict() for finding in tally.findings]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, one process",
        "seed": options.seed,
        "inputs": sum(tally["inputs"] for tally in rows.values()),  # type: ignore[misc]  # all are numbers
        "minutes": round((time.monotonic() - start) / 60, 1),
        "readers": rows,
        "findings": problems,
    }
    print(f"{report['inputs']} inputs, {report['minutes']} minutes, {len(problems)} findings")
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
