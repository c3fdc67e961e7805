"""Runs killed at random moments and resumed, until they end: do they equal uninterrupted runs, bit for bit?

    python -m benchmarks.faults [--kills 200] [--seed 1] [--modes usl uda ...] [--output FILE.json]

The kills are shared out over the modes. One in five is a SIGTERM, the others are SIGKILLs. The exit code is 1 if a run
differs, leaves a temporary file, or does not end as it must.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.runs.run_folder import environment
from tests.faults.campaign import MODES, Campaign


def measure(mode: str, kills: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Interrupt runs of a mode and compare them."""
    start = time.perf_counter()
    campaign = Campaign(mode, scratch)
    tally = campaign.interrupt(kills, np.random.default_rng([seed, sorted(MODES).index(mode)]))
    return {
        "kills": tally.stages.total(),
        "runs": tally.runs,
        "undisturbed_seconds": round(campaign.seconds, 2),
        "seconds": round(time.perf_counter() - start),
        "stages": dict(sorted(tally.stages.items())),
        "problems": tally.problems,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Kills and resumes")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="*", choices=list(MODES), default=list(MODES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {"seed": options.seed, "modes": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for mode in options.modes:
            share = -(-options.kills // len(options.modes))
            figures["modes"][mode] = measure(mode, share, options.seed, Path(scratch))
            print(mode, json.dumps(figures["modes"][mode]), flush=True)
    figures["kills"] = sum(result["kills"] for result in figures["modes"].values())
    figures["problems"] = sum(len(result["problems"]) for result in figures["modes"].values())
    figures |= {"date": datetime.now(UTC).date().isoformat(), "environment": environment()}
    print(json.dumps({name: figures[name] for name in ("kills", "problems")}))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if figures["problems"] else 0)


if __name__ == "__main__":
    main()
