"""Mutation testing: does some test fail when a sign, a number or a comparison is wrong?

    python tests/mutation.py FOLDER [--sample 300] [--seed 0] [--jobs 2]

Of all places where a module of the mathematics can be changed (see mutants.py) a seeded sample is
drawn, and one change at each. A change is killed when a test fails that passes without it, or takes
many times longer. Only the tests that run the changed line are tried, the quickest file first.

FOLDER keeps copies of the tracked files, which test runs which line, and the results. Nothing is
changed outside of it. Call it again after new tests are written: it measures the changed test
files and tries the survivors once more. After a change of plcore, take a new folder.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest
from mutants import changed_code, draw

ROOT = Path(__file__).parents[1]
# These run none of the mathematics, or run it in other processes.
IGNORED = ("benchmarks", "book", "notebooks", "packaging", "readme", "reference")
PYTEST = ["-q", "-m", "not browser", "-o", "addopts=--doctest-modules -p no:nbval", "-p"]
PATIENCE = 4  # a test may take so many times its usual processor time, and some seconds
MOST = 60.0  # seconds of tests tried for one change; what is left out can't kill it
MEMORY = 8 * 2**30
# Imported once, and not anew for each change.
LOADED = "autograd.numpy flint hypothesis joblib mpmath scipy.integrate scipy.linalg scipy.optimize"
LOADED = [*LOADED.split(), "scipy.sparse.linalg", "scipy.special", "sklearn.datasets"]


# Which test runs which line. pytest loads this file as a plugin of the measured run.


def pytest_configure(config):
    config.cost = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Name the lines that run after the test, and take its processor time."""
    import coverage

    coverage.Coverage.current().switch_context(item.nodeid)
    for name in [name for name in sys.modules if name.partition(".")[0] == "plcore"]:
        for thing in vars(sys.modules[name]).values():
            if hasattr(thing, "cache_clear"):  # what one test has computed, another must too
                thing.cache_clear()
    start = time.process_time()
    try:
        return (yield)
    finally:
        item.config.cost[item.nodeid] = time.process_time() - start


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """Lines run by a fixture that tests share belong to all tests of the file."""
    import coverage

    if fixturedef.scope == "function":
        return (yield)
    test = request._pyfuncitem.nodeid
    coverage.Coverage.current().switch_context(test.partition("::")[0])
    try:
        return (yield)
    finally:
        coverage.Coverage.current().switch_context(test)


def pytest_sessionfinish(session):
    if session.config.cost:
        path = Path(os.environ["MUTATION_COSTS"]) / f"{os.getpid()}.json"
        path.write_text(json.dumps(session.config.cost), encoding="utf-8")


def tracked(folder):
    """Paths of the tests and the package below `folder`."""
    listing = subprocess.check_output(["git", "ls-files", "-z"], cwd=folder, text=True)
    return [Path(name) for name in listing.split("\0") if name]


def renew(copy):
    """Bring `copy` up to date; names of the changed files of tests."""
    changed = []
    for path in tracked(ROOT):
        source, target = ROOT / path, copy / path
        if not source.is_file():
            continue
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        if target.exists() and path.parts[0] == "plcore":
            sys.exit(f"{path} has changed since {copy} was made: take a new folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        if path.match("tests/test_*.py") and path.stem.removeprefix("test_") not in IGNORED:
            changed.append(str(path))
    return changed


def environment(copy):
    """Variables for a run in `copy`, which stands before any installed plcore."""
    paths = os.pathsep.join([str(copy), str(copy / "tests")])
    return {**os.environ, "PYTHONPATH": paths, "TQDM_DISABLE": "1"}


def measure(folder, files, jobs):
    """Run `files` and note which test runs which line of plcore, at what cost."""
    copy, costs = folder / "copies" / "0", folder / "costs"
    costs.mkdir(exist_ok=True)
    (folder / "coverage.toml").write_text(
        "[tool.coverage.run]\nbranch = true\nsource_pkgs = ['plcore']\nparallel = true\n"
        f"relative_files = true\npatch = ['subprocess']\ndata_file = '{folder / '.coverage'}'\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={folder / 'coverage.toml'}"]
    command += ["-m", "pytest", *PYTEST, "mutation", "-n", str(jobs), "--dist=loadfile", *files]
    variables = {**environment(copy), "MUTATION_COSTS": str(costs)}
    if subprocess.run(command, cwd=copy, env=variables).returncode:
        sys.exit("the tests fail before anything is changed")
    combine = [sys.executable, "-m", "coverage", "combine", "--append", "-q"]
    combine += [f"--rcfile={folder / 'coverage.toml'}"]
    subprocess.run(combine, cwd=copy, check=True)


# The tests of one change.


def lines_of(tree, line):
    """Lines of the statement that `line` belongs to; of the whole function for its first lines."""
    found = (line, line)
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        last = node.end_lineno
        if hasattr(node, "body") and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            last = max(node.lineno, node.body[0].lineno - 1)
        inner = hasattr(node, "decorator_list") and line >= node.body[0].lineno
        if first <= line <= last and not inner:
            found = (first, last)
    return range(found[0], found[1] + 1)


def covering(by_line, tree, change, costs):
    """Tests that run the changed statement, {file: {test: seconds}}, the quickest file first."""
    own = f"tests/test_{change['module'].strip('_')}"
    lines = lines_of(tree, change["line"])
    contexts = {context for line in lines for context in by_line.get(line, ()) if context}
    if not contexts:  # it runs when the module is imported
        contexts = {own, *(context for each in by_line.values() for context in each if context)}
    files = defaultdict(dict)
    for test, cost in costs.items():
        if test in contexts or test.partition("::")[0] in contexts:
            files[test.partition("::")[0]][test] = cost
    # The module's own tests come earlier than their cost alone would have them.
    price = {file: sum(each.values()) / (3 if file == own else 1) for file, each in files.items()}
    kept, spent = {}, 0.0
    for file in sorted(files, key=price.get):
        for test, cost in sorted(files[file].items(), key=lambda pair: pair[1]):
            if spent + cost <= MOST:
                kept.setdefault(file, {})[test] = cost
                spent += cost
    return kept


class Chosen:
    """pytest plugin: the chosen tests of a file, the quickest first, each with its time."""

    def __init__(self, tests, log):
        self.tests, self.log, self.failed = tests, log, None

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.tests),
            key=lambda item: self.tests[item.nodeid],
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self.log.write_text(item.nodeid, encoding="utf-8")
        limit = PATIENCE * self.tests[item.nodeid] + 10
        # Unhandled, these signals end the process.
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.setitimer(signal.ITIMER_REAL, 5 * limit)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed = report.nodeid


def run_tests(copy, files, log):
    """In a process of its own: the test that fails, the empty string if none does."""
    os.setsid()
    os.chdir(copy)
    os.environ.update(environment(copy), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    sys.path[:0] = [str(copy), str(copy / "tests")]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    options = [*PYTEST, "no:cacheprovider", "-x", "--tb=no", f"--rootdir={copy}"]
    # What is imported already, pytest need not rewrite.
    options += [
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "-c",
        str(copy / "pyproject.toml"),
    ]
    for file, tests in files.items():
        plugin = Chosen(tests, log)
        signal.setitimer(signal.ITIMER_PROF, 60)
        status = pytest.main([*options, file], [plugin])
        if status not in (0, 5):
            return plugin.failed or min(tests)  # it fails before the first test
    return ""


def attempt(copy, files, log):
    """What `files` say of the package in `copy`: (killing test, "failed" or "timeout"), or None."""
    log.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        status = 2
        try:
            failed = run_tests(copy, files, log)
            log.write_text(failed, encoding="utf-8")
            status = bool(failed)
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status == 0 or (os.WIFEXITED(status) and os.WEXITSTATUS(status) != 1):
        return None  # also where the trial itself breaks down
    return log.read_text(encoding="utf-8"), "timeout" if os.WIFSIGNALED(status) else "failed"


def judge(folder, slot, tasks, results):
    """Process `slot`: try one change after another in its own copy of the files."""
    copy, log = folder / "copies" / str(slot), folder / f"test.{slot}"
    while (task := tasks.get()) is not None:
        index, change, files = task
        path = copy / "plcore" / change["module"]
        code, stamp = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
        start, outcome = time.time(), None
        try:
            path.write_text(changed_code(code, change), encoding="utf-8")
            os.utime(path, (index, index))  # so that no compiled file is taken for another's
            outcome = attempt(copy, files, log)
        finally:
            path.write_text(code, encoding="utf-8")
            os.utime(path, ns=(stamp, stamp))
        results.put((index, outcome, time.time() - start))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    folder, found = given.folder, given.folder / "results.json"
    copies = [folder / "copies" / str(slot) for slot in range(given.jobs)]
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"

    files, *_ = [renew(copy) for copy in copies]
    if files:
        everything = not found.exists()
        ignored = [f"--ignore=tests/test_{name}.py" for name in IGNORED]
        measure(folder, ["tests", "plcore", *ignored] if everything else files, given.jobs)
    if found.exists():
        kept = json.loads(found.read_text(encoding="utf-8"))
    else:
        changes, places = draw(copies[0], given.sample, given.seed)
        kept = {"places": places, "changes": changes}
    changes = kept["changes"]

    import coverage

    data = coverage.CoverageData(str(folder / ".coverage"))
    data.read()
    costs = {}
    for path in sorted((folder / "costs").iterdir(), key=lambda each: each.stat().st_mtime):
        costs |= json.loads(path.read_text(encoding="utf-8"))

    for name in LOADED:
        import_module(name)
    context = get_context("fork")
    tasks, results = context.Queue(), context.Queue()
    pending = [i for i, change in enumerate(changes) if not change.get("killed")]
    module = None
    for i in pending:
        if changes[i]["module"] != module:
            module = changes[i]["module"]
            tree = ast.parse((copies[0] / "plcore" / module).read_text(encoding="utf-8"))
            by_line = data.contexts_by_lineno(f"plcore/{module}")
        tasks.put((i, changes[i], covering(by_line, tree, changes[i], costs)))
    slots = [
        context.Process(target=judge, args=(folder, slot, tasks, results))
        for slot in range(given.jobs)
    ]
    for slot in slots:
        tasks.put(None)
        slot.start()
    for _ in pending:
        i, outcome, seconds = results.get()
        changes[i] |= {"killed": outcome, "seconds": round(seconds, 1)}
        found.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        print("{module}:{line} {operator} {killed} {seconds} s".format(**changes[i]), flush=True)
    acquit(copies[0], changes, costs, folder / "test.0")
    found.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    report(copies[0], kept)


def acquit(copy, changes, costs, log):
    """Let a killing test count only if it passes on the package as it is."""
    killers = {change["killed"][0] for change in changes if change["killed"]}
    files = defaultdict(dict)
    for test in killers & set(costs):
        files[test.partition("::")[0]][test] = costs[test]
    while wrong := attempt(copy, files, log):
        print(f"{wrong[0]} fails before anything is changed")
        for change in changes:
            if change["killed"] and change["killed"][0] == wrong[0]:
                change["killed"] = None
        if not files[wrong[0].partition("::")[0]].pop(wrong[0], None):
            sys.exit("these tests cannot be run")


def report(copy, kept):
    """Table of the modules, and each survivor as a change of one line."""
    changes = kept["changes"]
    drawn = Counter(change["module"] for change in changes)
    alive = [change for change in changes if not change["killed"]]
    left = Counter(change["module"] for change in alive)
    print(f"\n{'module':28}{'drawn':>7}{'killed':>8}")
    for name, number in sorted(drawn.items()):
        print(f"{name:28}{number:7}{number - left[name]:8}")
    rate = 1 - len(alive) / len(changes)
    print(f"{'of ' + str(kept['places']) + ' places':28}{len(changes):7}", end="")
    print(f"{len(changes) - len(alive):8}  ({rate:.1%})\n\nSurvivors:")
    for change in alive:
        code = (copy / "plcore" / change["module"]).read_text(encoding="utf-8")
        print("{module}:{line} {operator}".format(**change))
        new = changed_code(code, change).splitlines()
        for text in list(difflib.unified_diff(code.splitlines(), new, n=0))[3:]:
            print(f"  {text[0]} {text[1:].strip()}")


if __name__ == "__main__":
    main()
