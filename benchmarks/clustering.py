"""Clustering by size: time of each stage, peak memory, and how much faster than the plain computation.

    python -m benchmarks.clustering [--sizes 2000 5000 12936 32621 100000] [--plain-up-to 12936] [--tiled 1000000]
                                    [--threads 2] [--device cpu] [--output FILE.json]
    python -m benchmarks.clustering --processes 2 [--count 100000]     one process and two, of one thread each
    python -m benchmarks.clustering --against PATH [--count 32621]     another checkout, in turns
    python -m benchmarks.clustering --libraries [--count 12936]        our search, plain torch, faiss and scikit-learn

Features are made as re-identification has them: clusters of log-normal sizes on the sphere, D = 384, a tenth of the
images in no cluster. Every size runs in a process of its own, so that peak memory is that size's. `--plain-up-to`
compares with NumPy and Python on N x N arrays (`plain_jaccard.py`) in the same run: it needs about 13 N^2 bytes.
`--tiled N` repeats a block of features N / 50,000 times, apart from one another, to measure the stages after the
neighbours alone at sizes whose search would take long. `--processes` starts torchrun with gloo; `--against` runs this
file with the package of another checkout (three times each, alternating) and prints the ratio of the medians. All
comparisons say whether the labels (or the neighbours) are equal, and want a machine that does nothing else.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plain_jaccard import plain_dbscan, plain_distances, plain_neighbours

K1, K2, EPS, MIN_SAMPLES, DIMENSION = 30, 6, 0.6, 4, 384
_BLOCK = 50_000
_PAGE = os.sysconf("SC_PAGE_SIZE")

Figures = dict[str, Any]


def make_features(count: int, *, dimension: int = DIMENSION, spread: float = 0.9, seed: int = 0) -> NDArray[np.float32]:
    """(count, dimension) unit vectors: clusters of log-normal sizes (median 16), one image in ten alone."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(1, np.rint(rng.lognormal(np.log(16), 0.6, count))).astype(np.int64)
    labels = np.repeat(np.arange(len(sizes)), sizes)[:count]
    centres = rng.standard_normal((int(labels[-1]) + 1, dimension), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    features = centres[labels]
    alone = rng.random(count) < 0.1
    features[alone] = rng.standard_normal((int(alone.sum()), dimension), dtype=np.float32) / np.sqrt(dimension)
    features += rng.standard_normal(features.shape, dtype=np.float32) * np.float32(spread / np.sqrt(dimension))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    shuffled: NDArray[np.float32] = features[rng.permutation(count)]
    return shuffled


class Stages:
    """Seconds and memory of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.mebibytes: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a stage, and sample how far its memory rises above what was held before."""
        before, peak, done = _resident(), [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                peak[0] = max(peak[0], _resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)
        done.set()
        watcher.join()
        self.mebibytes[name] = round(max(0, max(peak[0], _resident()) - before) / 2**20, 1)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def measure(count: int, *, plain: bool, threads: int | None, device: str) -> Figures:
    """All stages at one size, and the plain computation if asked for."""
    from reidkit.clustering import nearest_neighbours

    _compile(device)
    features, stages = make_features(count), Stages()
    with stages("neighbours"):
        neighbours = nearest_neighbours(features, K1, threads=threads, device=device)
    graph, labels = _after(features, neighbours, stages, threads)
    figures = _summary(count, stages, graph, labels)
    if plain:
        slow = Stages()
        with slow("neighbours"):
            near = plain_neighbours(features, K1)
        with slow("graph"):
            distances = plain_distances(features, near, k1=K1, k2=K2)
        with slow("labels"):
            expected = plain_dbscan(distances, EPS, MIN_SAMPLES)
        total = sum(slow.seconds.values())
        figures["plain"] = {
            "seconds": slow.seconds,
            "total": round(total, 3),
            "times": round(total / figures["total"], 1),
        }
        figures["plain"]["equal labels"] = bool(np.array_equal(labels, expected))
        figures["plain"]["equal neighbours"] = float(np.mean(np.sort(near) == np.sort(neighbours)))
    return figures


def measure_tiled(count: int, *, threads: int | None) -> Figures:
    """The stages after the neighbours on a block of features, repeated apart: rows and pairs grow as N."""
    from reidkit.clustering import nearest_neighbours

    _compile("cpu")
    block, stages = make_features(min(count, _BLOCK), dimension=64), Stages()
    near = nearest_neighbours(block, K1, threads=threads)
    copies = count // len(block)
    features = np.tile(block, (copies, 1))
    neighbours = np.concatenate([near + copy * len(block) for copy in range(copies)]).astype(np.int32)
    graph, labels = _after(features, neighbours, stages, threads)
    return {"tiled": True, "dimension": 64, **_summary(len(features), stages, graph, labels)}


def _compile(device: str) -> None:
    """Have every kernel compiled before the clock runs."""
    from reidkit.clustering import JaccardDBSCAN

    JaccardDBSCAN(device=device).fit(make_features(5000))


def _after(
    features: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    stages: Stages,
    threads: int | None,
) -> tuple[Any, NDArray[np.int64]]:
    from reidkit.clustering import dbscan, jaccard_graph

    with stages("graph"):
        graph = jaccard_graph(features, k1=K1, k2=K2, max_distance=EPS, neighbours=neighbours, threads=threads)
    with stages("labels"):
        labels, _ = dbscan(graph, eps=EPS, min_samples=MIN_SAMPLES)
    return graph, labels


def _summary(count: int, stages: Stages, graph: Any, labels: NDArray[np.int64]) -> Figures:
    return {
        "images": count,
        "clusters": int(labels.max()) + 1,
        "noise": round(float((labels < 0).mean()), 4),
        "entries per row": round(graph.nnz / count, 1),
        "seconds": stages.seconds,
        "total": round(sum(stages.seconds.values()), 3),
        "MiB": stages.mebibytes,
    }


def _growth(results: list[Figures]) -> dict[str, float]:
    """Exponent of each stage between the two largest sizes measured whole: time ~ N^exponent."""
    whole = [result for result in results if "tiled" not in result]
    if len(whole) < 2:
        return {}
    small, large = whole[-2:]
    scale = np.log(large["images"] / small["images"])
    return {
        name: round(float(np.log(large["seconds"][name] / small["seconds"][name]) / scale), 2)
        for name in large["seconds"]
    }


def _alone(function: Callable[..., Figures], *arguments: Any, **settings: Any) -> Figures:
    """Call a function in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, settings)


def time_stages(count: int, threads: int | None, device: str) -> Figures:
    """Seconds of neighbours, graph and DBSCAN, in all processes of torchrun where it has started several."""
    import torch.distributed as dist

    from reidkit.clustering import dbscan, jaccard_graph, nearest_neighbours

    group: Any = None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
        group = dist.group.WORLD
    sharing: dict[str, Any] = {"threads": threads, "group": group}
    seconds: dict[str, float] = {}
    for size in (5000, count):  # the first compiles
        features = make_features(size)
        clock = [time.perf_counter()]
        neighbours = nearest_neighbours(features, K1, device=device, **sharing)
        clock.append(time.perf_counter())
        graph = jaccard_graph(features, k1=K1, k2=K2, max_distance=EPS, neighbours=neighbours, **sharing)
        clock.append(time.perf_counter())
        labels, _ = dbscan(graph, eps=EPS, min_samples=MIN_SAMPLES)
        clock.append(time.perf_counter())
        seconds = dict(zip(("neighbours", "graph", "labels"), np.diff(clock).round(3).tolist(), strict=True))
    if group is not None:
        dist.destroy_process_group()
    return {"images": count, "seconds": seconds, "total": round(sum(seconds.values()), 3), "labels": _digest(labels)}


def compare_processes(count: int, processes: int) -> Figures:
    """One process and several, of one thread each, on this machine."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    worker = ["--worker", "--count", str(count), "--threads", "1"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    one = _worker([sys.executable, __file__, *worker], environment)
    several = _worker([*launch, __file__, *worker], environment)
    return {
        "one process": one,
        f"{processes} processes": several,
        "times as fast": round(one["total"] / several["total"], 2),
        "equal labels": one["labels"] == several["labels"],
    }


def compare_checkouts(count: int, other: Path, threads: int | None, device: str) -> Figures:
    """This checkout and another one, in alternating processes."""
    checkouts = {"here": Path(__file__).resolve().parents[1], "there": other.resolve()}
    worker = [sys.executable, __file__, "--worker", "--count", str(count), "--device", device]
    if threads is not None:
        worker += ["--threads", str(threads)]
    runs: dict[str, list[Figures]] = {name: [] for name in checkouts}
    for _ in range(3):
        for name, folder in checkouts.items():
            runs[name].append(_worker(worker, os.environ | {"PYTHONPATH": str(folder)}))
            print(json.dumps({name: runs[name][-1]}), flush=True)
    here, there = (statistics.median(run["total"] for run in runs[name]) for name in checkouts)
    digests = {run["labels"] for found in runs.values() for run in found}
    return {"here": here, "there": there, "here / there": round(here / there, 3), "equal labels": len(digests) == 1}


def compare_libraries(count: int, threads: int | None) -> Figures:
    """Neighbours by this package with either library, and by the plain use of torch, faiss and scikit-learn."""
    import torch
    from sklearn.neighbors import NearestNeighbors

    from reidkit.clustering import nearest_neighbours

    features = make_features(count)
    tensor = torch.from_numpy(features)
    torch.set_num_threads(threads or torch.get_num_threads())
    searches: dict[str, Callable[[], Any]] = {
        "reidkit": lambda: nearest_neighbours(features, K1, backend="torch", threads=threads),
        "torch": lambda: torch.cat([(rows @ tensor.T).topk(K1).indices for rows in torch.split(tensor, 2048)]),
        "scikit-learn": lambda: NearestNeighbors(algorithm="brute").fit(features).kneighbors(features, K1)[1],
    }
    try:
        import faiss
    except ImportError:
        print("faiss is not installed")
    else:
        faiss.omp_set_num_threads(threads or faiss.omp_get_max_threads())
        searches["reidkit with faiss"] = lambda: nearest_neighbours(features, K1, backend="faiss", threads=threads)

        def flat() -> Any:
            index = faiss.IndexFlatIP(features.shape[1])
            index.add(features)
            return index.search(features, K1)[1]

        searches["faiss"] = flat
    expected = np.sort(searches["reidkit"]())
    figures: Figures = {"images": count}
    for name, search in searches.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            found = search()
            seconds.append(time.perf_counter() - start)
        figures[name] = {
            "seconds": round(min(seconds), 3),
            "equal neighbours": float(np.mean(np.sort(np.asarray(found)) == expected)),
        }
    return figures


def _worker(command: list[str], environment: dict[str, str]) -> Figures:
    """Run this file as a worker; its last line is the result."""
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])} | environment
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _digest(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(labels.tobytes()).hexdigest()[:16]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="clustering by size")
    parser.add_argument("--sizes", type=int, nargs="*", default=[2000, 5000, 12_936, 32_621])
    parser.add_argument("--plain-up-to", type=int, default=5000)
    parser.add_argument("--tiled", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--processes", type=int, help="compare one process with this number of processes")
    parser.add_argument("--against", type=Path, help="compare with the package of another checkout")
    parser.add_argument("--libraries", action="store_true", help="compare the search with other libraries")
    parser.add_argument("--count", type=int, help="images of a comparison")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        figures = time_stages(options.count, options.threads, options.device)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(figures))
        return
    report = _compare(options) if options.processes or options.against or options.libraries else _by_size(options)
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _compare(options: argparse.Namespace) -> Figures:
    """The comparison that was asked for, printed."""
    if options.processes:
        comparison = compare_processes(options.count or 100_000, options.processes)
    elif options.against:
        comparison = compare_checkouts(options.count or 32_621, options.against, options.threads, options.device)
    else:
        comparison = compare_libraries(options.count or 12_936, options.threads)
    print(json.dumps(comparison, indent=1))
    return comparison


def _by_size(options: argparse.Namespace) -> Figures:
    """All stages at each size, printed."""
    results = []
    for count in options.sizes:
        plain = count <= options.plain_up_to
        results.append(_alone(measure, count, plain=plain, threads=options.threads, device=options.device))
        print(json.dumps(results[-1]), flush=True)
    if options.tiled:
        results.append(_alone(measure_tiled, options.tiled, threads=options.threads))
        print(json.dumps(results[-1]), flush=True)
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, device {options.device}",
        "settings": {"k1": K1, "k2": K2, "eps": EPS, "min_samples": MIN_SAMPLES, "dimension": DIMENSION},
        "growth": _growth(results),
        "results": results,
    }
    print(json.dumps(report["growth"]))
    return report


if __name__ == "__main__":
    main()
