"""Compare the speed of plcore with JAX's and PyTorch's on the same work, and check the results.

    pip install -e ".[benchmark]"
    python benchmarks/compare.py

All work is float64 on one core.  For each library the fastest of several variants is found first
(`--variants` prints them all); then the chosen ones take turns for several rounds, and the medians
are compared.  "Cold" is a fresh Python that imports, compiles and does the work once.  C
(descent.c) shows what the machine can do; it is no peer.  What is not installed is left out.
`--clock cpu` counts processor time instead of time on the wall, for a machine that is not quiet.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread and one core for every library; before they are imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
from with_neural_tangents import Server  # noqa: E402
from workloads import WORKS, Work  # noqa: E402

LIBRARIES = {"plcore": "ours", "JAX": "with_jax", "PyTorch": "with_torch", "C": "with_c"}
TRIAL_SECONDS = 0.15  # of plcore, for the trial of the variants
PATIENCE = 20  # times the fastest so far, after which a variant is given up


class Contest:
    """The libraries that there are, and a clock."""

    def __init__(self, clock: str, libraries: list[str], neural_tangents: str | None) -> None:
        self.clock = "perf_counter" if clock == "wall" else "process_time"
        self.now: Callable[[], float] = getattr(time, self.clock)
        self.server = Server(neural_tangents, self.clock) if neural_tangents else None
        self.modules: dict[str, Any] = {}
        for library in libraries:
            try:
                self.modules[library] = importlib.import_module(LIBRARIES[library])
            except ImportError as error:
                print(f"{library} is left out: {error}.")
        if self.server is not None:
            self.modules["neural-tangents"] = self.server

    def taken(self, library: str, run: Callable[[], Any]) -> tuple[float, Any]:
        """Return the seconds of one call, and its result as an array."""
        start = self.now()
        result = run()
        seconds = self.now() - start
        if library == "neural-tangents" and self.server is not None:
            seconds = self.server.seconds
        return seconds, np.asarray(result)

    def expected(self, work: Work) -> np.ndarray:
        """Return plcore's result, with which all others have to agree."""
        make = next(iter(self.modules["plcore"].VARIANTS[work.kind].values()))
        return np.asarray(make(work)())

    def choose(self, work: Work, library: str, report: bool) -> str | None:
        """Return the name of the library's fastest variant, found on shorter works.

        All have a short trial, and those that come near its winner a longer one, in turns.
        """
        variants = self.modules[library].VARIANTS.get(work.kind, {})
        if len(variants) < 2 and not report:
            return next(iter(variants), None)
        trial = self.shortened(work, TRIAL_SECONDS)
        expected = self.expected(trial)
        found: dict[str, float] = {}
        for name, make in variants.items():
            try:
                run = make(trial)
                first, result = self.taken(library, run)
                seconds = self.taken(library, run)[0]
                if seconds < PATIENCE * min(found.values(), default=np.inf):
                    seconds = min(seconds, *(self.taken(library, run)[0] for _ in range(3)))
            except Exception as error:  # a variant that does not work here is not the fastest
                print(f"  {library}, {name}: {type(error).__name__}: {str(error)[:90]}")
                continue
            error = trial.error(result, expected)
            if error <= 1:
                found[name] = seconds
            if report or error > 1:
                wrong = f"  WRONG by {error:.1f} tolerances" if error > 1 else ""
                print(f"  {library}, {name}: {1e3 * seconds:.1f} ms, first {first:.2f} s{wrong}")
        near = [name for name, seconds in found.items() if seconds < 1.5 * min(found.values())]
        if len(near) > 1:
            longer = self.shortened(work, 4 * TRIAL_SECONDS)
            runs = {name: variants[name](longer) for name in near}
            times = [{name: self.taken(library, runs[name])[0] for name in near} for _ in range(5)]
            found = {name: min(each[name] for each in times[1:]) for name in near}
        return min(found, key=found.get, default=None)  # type: ignore[arg-type]

    def shortened(self, work: Work, seconds: float) -> Work:
        """Return the work with as many steps as plcore makes in so many seconds."""
        if work.kind != "descent":
            return work
        run = next(iter(self.modules["plcore"].VARIANTS["descent"].values()))
        taken = self.taken("plcore", run(work.with_(steps=40)))[0]
        return work.with_(steps=min(work.steps, max(2, int(2 * seconds / taken)) * 20))

    def run(self, work: Work, rounds: int, report: bool) -> dict[str, Any]:
        """Return, for each library, its variant and its times, round by round."""
        print(f"\n{work.name}: {work.title}", flush=True)
        expected = self.expected(work)
        runs, found = {}, {}
        for library, module in self.modules.items():
            name = self.choose(work, library, report)
            if name is None:
                continue
            runs[library] = module.VARIANTS[work.kind][name](work)
            seconds, result = self.taken(library, runs[library])
            error = work.error(result, expected)
            assert error <= 1, f"{library}, {name} is wrong by {error:.3g} tolerances"
            found[library] = {"variant": name, "first": seconds, "error": error, "times": []}
        order = list(runs)
        for k in range(rounds):
            for library in order[k % len(order) :] + order[: k % len(order)]:
                repeat = 1 if found[library]["first"] > 0.5 else 5
                times = [self.taken(library, runs[library])[0] for _ in range(repeat)]
                found[library]["times"].append(min(times))
        for library, entry in found.items():
            low, high = min(entry["times"]), max(entry["times"])
            print(
                f"  {library}: {statistics.median(entry['times']):.4g} s "
                f"({low:.4g} to {high:.4g}), {entry['variant']}, "
                f"error {entry['error']:.1e} of what is allowed",
                flush=True,
            )
        return found


def cold_seconds(library: str, work: Work, variant: str) -> float:
    """Return the wall time of a fresh Python that does the work once."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "import workloads, numpy;"
        f"import {LIBRARIES[library]} as library;"
        f"work = workloads.WORKS[{work.name!r}];"
        f"numpy.asarray(library.VARIANTS[work.kind][{variant!r}](work)())"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    return time.perf_counter() - start


def exponents(contest: Contest) -> list[str]:
    """Fit how plcore's time grows, by least squares in logarithms."""

    def fitted(sizes: list[int], works: list[Work]) -> float:
        times = []
        for work in works:
            run = next(iter(contest.modules["plcore"].VARIANTS[work.kind].values()))(work)
            times.append(min(contest.taken("plcore", run)[0] for _ in range(5)))
        return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])

    steps, runs = [250, 500, 1000, 2000], [40, 80, 160, 320]
    samples, widths = [250, 500, 1000, 2000], [256, 512, 1024, 2048]
    descent, kernel = WORKS["W1"], WORKS["K1"].with_(kind="one kernel")
    wide = [kernel.with_(widths=(w, w, w, 1), samples=1000) for w in widths]
    many = [kernel.with_(widths=(32, 32, 32, 1), samples=n) for n in samples]
    return [
        f"descent ~ steps^{fitted(steps, [descent.with_(steps=k) for k in steps]):.2f}",
        f"descent ~ runs^{fitted(runs, [descent.with_(steps=100, runs=r) for r in runs]):.2f}",
        f"kernel ~ n^{fitted(samples, many):.2f} (widths 32)",
        f"kernel ~ width^{fitted(widths, wide):.2f} (n = 1000; the passes go with n·width²)",
    ]


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(contest: Contest, results: dict[str, Any], clock: str, rounds: int) -> str:
    """Return the medians as a table in Markdown."""

    def text(seconds: float | None) -> str:
        if seconds is None:
            return ""
        return f"{1e3 * seconds:.3g} ms" if seconds < 0.5 else f"{seconds:.3g} s"

    others = [name for name in contest.modules if name not in ("plcore", "JAX", "PyTorch")]
    heads = [
        "",
        "work",
        "plcore",
        "JAX",
        "PyTorch",
        *others,
        "plcore / fastest peer",
        "aim",
        "cold",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, found in results.items():
        medians = {library: statistics.median(e["times"]) for library, e in found.items()}
        peers = [value for library, value in medians.items() if library not in ("plcore", "C")]
        ratio = f"{medians['plcore'] / min(peers):.2f}" if peers else ""
        cold = [f"{e['cold']:.1f}" for e in found.values() if "cold" in e]
        cells = [name, WORKS[name].title]
        cells += [text(medians.get(library)) for library in ("plcore", "JAX", "PyTorch", *others)]
        cells += [ratio, f"≤ {WORKS[name].target:g}", " / ".join(cold) + (" s" if cold else "")]
        lines.append("| " + " | ".join(cells) + " |")
    versions = [
        module.VERSION for name, module in contest.modules.items() if name in ("JAX", "PyTorch")
    ]
    kind = "Time on the wall" if clock == "wall" else "Processor time"
    lines += [
        "",
        f"{kind}, medians of {rounds} interleaved rounds, {datetime.date.today()}; one core of "
        f"{processor()}; {', '.join([f'NumPy {np.__version__}', *versions])}.  Cold (plcore / JAX "
        "/ PyTorch): a fresh Python that imports, compiles and does the work once, on the wall.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps of descent, for a quick look")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--variants", action="store_true", help="print every variant's time")
    parser.add_argument("--no-cold", action="store_true", help="skip the fresh Pythons")
    parser.add_argument("--no-scaling", action="store_true", help="skip the fitted exponents")
    parser.add_argument(
        "--neural-tangents",
        metavar="PYTHON",
        help="Python of an environment with the extra benchmark-neural-tangents",
    )
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    options = parser.parse_args()
    if "plcore" not in options.libraries:
        parser.error("plcore is what the others are compared with")
    contest = Contest(options.clock, options.libraries, options.neural_tangents)
    results = {}
    for name in options.work:
        work = WORKS[name]
        if options.steps and work.steps:
            work = work.with_(steps=options.steps)
        results[name] = contest.run(work, options.rounds, options.variants)
        if not (options.no_cold or options.steps):
            for library in ("plcore", "JAX", "PyTorch"):
                if library in results[name]:
                    entry = results[name][library]
                    entry["cold"] = cold_seconds(library, WORKS[name], entry["variant"])
    if contest.server is not None:
        contest.server.close()
    written = table(contest, results, options.clock, options.rounds)
    print("\n" + written)
    if not options.no_scaling:
        print("\nFitted exponents: " + "; ".join(exponents(contest)) + ".")
    if options.markdown:
        options.markdown.write_text(written + "\n")


if __name__ == "__main__":
    main()
