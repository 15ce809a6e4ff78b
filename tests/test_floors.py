"""The modules of plcore stand on floors: an import goes down, and what plots stays on top."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "plcore"

# The floor plan. A new module is entered here, on the lowest floor that its imports allow.
FLOORS = {
    "_descent_layers": 2,
    "_residual_direction": 1,
    "_start_bounds": 3,
    "_start_curvature": 4,
    "_start_direction": 4,
    "_elementwise": 0,
    "_logarithms": 0,
    "_progress": 0,
    "ball_activations": 0,
    "balls": 0,
    "boxes": 0,
    "checks": 0,
    "intervals": 0,
    "results": 0,
    "_files": 1,
    "activations": 1,
    "ball_networks": 1,
    "_strict_json": 1,
    "flow_result": 1,
    "jets": 1,
    "verdicts": 1,
    "guarantees": 1,
    "claims": 2,
    "ball_expansion": 2,
    "ball_signals": 2,
    "network": 2,
    "piecewise": 2,
    "automatic": 2,
    "step_sizes": 2,
    "gaussian_pairs": 2,
    "wide_networks": 3,
    "hypotheses": 3,
    "_single_run": 3,
    "initialization": 3,
    "kernel": 3,
    "infinite_width": 4,
    "objectives": 4,
    "architectures": 5,
    "criterion": 5,
    "curvature": 5,
    "_flow_solver": 5,
    "_worst_search": 5,
    "toys": 5,
    "wide_study": 5,
    "network_descent": 5,
    "bounds": 6,
    "jacobian_expansion": 6,
    "descent": 6,
    "flow": 6,
    "lecun_event": 6,
    "optimizers": 6,
    "positive_start": 6,
    "regions": 6,
    "worst_points": 6,
    "derivatives": 7,
    "jacobian_bounds": 7,
    "positive_start_bounds": 7,
    "bound_trials": 8,
    "certificates": 8,
    "positive_start_descent": 8,
    "experiments": 8,
    "verification": 8,
    "applicability": 9,
    "certificate_study": 9,
    "constants_study": 9,
    "fair_race": 9,
    "__init__": 10,
    "svg": 11,
    "figures": 12,
    "_notebooks": 12,
    "__main__": 13,
}
# What draws, and the command line: the mathematics never imports these.
TOP = 11
# A verified certificate shares no numerics with the search that found it.
HIGHEST_IMPORTED = {"verification": 2}

# What a module may import from elsewhere; every other module has NumPy and SciPy alone.
OUTSIDE = {
    "__main__": {"nbclient", "numpy"},
    "_notebooks": {"nbclient", "nbformat"},
    "_progress": {"tqdm"},
    "architectures": {"autograd", "numpy"},
    "automatic": {"autograd", "numpy"},
    "ball_activations": {"flint", "numpy"},
    "balls": {"flint", "numpy"},
    "certificate_study": {"numpy", "sklearn"},
    "constants_study": {"joblib", "numpy"},
    "experiments": {"joblib", "numpy", "scipy", "sklearn"},
    "fair_race": {"joblib", "numpy", "scipy"},
    "figures": {"IPython", "cycler", "ipywidgets", "matplotlib", "numpy"},
    "svg": {"PIL", "matplotlib"},
    "verification": {"flint", "numpy"},
}
EVERYWHERE = {"numpy", "scipy"}


def imported_modules(source):
    """Modules of plcore and outside packages named by the imports of `source`, lazy ones too."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"plcore.{node.module or ''}".rstrip(".") if node.level else node.module
            # `from . import checks` names the module in its list, `from .checks import …` before.
            names = [f"{base}.{a.name}" for a in node.names] if base == "plcore" else [base]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "plcore":
                inside.add(rest.partition(".")[0] or "__init__")
            elif package not in sys.stdlib_module_names:
                outside.add(package)
    return inside, outside


def violations(module, source):
    """One sentence for each import in `source` that the floor plan forbids to `module`."""
    inside, outside = imported_modules(source)
    if module not in FLOORS:
        return [f"plcore/{module}.py stands on no floor: enter it in FLOORS"]
    found = []
    limit = HIGHEST_IMPORTED.get(module, FLOORS[module] - 1)
    for name in sorted(inside):
        if name not in FLOORS:
            found.append(f"plcore/{module}.py imports plcore.{name}, which is no module")
        elif FLOORS[name] >= TOP > FLOORS[module]:
            found.append(f"plcore/{module}.py imports plcore.{name}, which only drawing may import")
        elif FLOORS[name] > limit:
            found.append(
                f"plcore/{module}.py imports plcore.{name} from floor {FLOORS[name]}; "
                f"it may import floors up to {limit}"
            )
    for name in sorted(outside - OUTSIDE.get(module, EVERYWHERE)):
        found.append(f"plcore/{module}.py imports {name}, which OUTSIDE does not allow it")
    return found


def test_every_import_goes_down():
    found = [
        sentence
        for path in sorted(PACKAGE.rglob("*.py"))
        for sentence in violations(
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts),
            path.read_text(encoding="utf-8"),
        )
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("checks", "from . import network", "from floor 2"),
        ("kernel", "from .initialization import lecun", "from floor 3"),
        ("kernel", "def f():\n    from plcore.descent import run", "from floor 6"),
        ("network", "import plcore.criterion", "from floor 5"),
        ("network", "from . import FeedForward", "is no module"),
        ("network", "import plcore", "from floor 10"),
        ("svg", "from plcore.figures import slider", "from floor 12"),
        ("verification", "from .kernel import least_eigenvalue", "up to 2"),
        ("experiments", "from . import figures", "only drawing may import"),
        ("__init__", "from .figures import slider", "only drawing may import"),
        ("flow", "import matplotlib.pyplot as plt", "imports matplotlib"),
        ("novelty", "import numpy", "stands on no floor"),
    ],
)
def test_a_forbidden_import_is_found(module, source, complaint):
    (sentence,) = violations(module, source)
    assert complaint in sentence


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("network", "import math\nimport numpy as np\nfrom . import checks"),
        ("objectives", "from .kernel import tangent_kernel\nfrom plcore import network"),
        ("verification", "import flint\nfrom .activations import Activation"),
        ("figures", "import matplotlib\nfrom . import svg\nfrom .experiments import figure_one"),
    ],
)
def test_an_allowed_import_is_left_alone(module, source):
    assert violations(module, source) == []


def needs_an_extra(module):
    """Whether a module imports what plain plcore does not depend on, itself or below."""
    inside, outside = imported_modules((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    return not outside <= EVERYWHERE or any(needs_an_extra(name) for name in inside)


def test_importing_plcore_is_quick_and_brings_nothing_that_plots():
    """Imported after NumPy and SciPy, the package and its lower floors add only themselves."""
    lower = sorted(
        name
        for name, floor in FLOORS.items()
        if floor < 7
        and (PACKAGE / f"{name}.py").exists()
        and not name.startswith("__")
        and not needs_an_extra(name)
    )
    sources = [(PACKAGE / f"{name}.py").read_text(encoding="utf-8") for name in lower]
    scipy_modules = sorted(
        {
            f"scipy.{alias.name}"
            for source in sources
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) and node.module == "scipy"
            for alias in node.names
        }
    )
    program = f"""
import importlib, json, sys, time
for name in ["numpy", "scipy", *{scipy_modules!r}]:
    importlib.import_module(name)
before = set(sys.modules)
start = time.process_time()
import plcore
for name in {lower!r}:
    importlib.import_module("plcore." + name)
seconds = time.process_time() - start
packages = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps([seconds, sorted(packages - sys.stdlib_module_names)]))
"""
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", program], text=True))
        for _ in range(3)
    ]
    assert lower
    assert set(runs[0][1]) <= {"plcore", *EVERYWHERE}, runs[0][1]
    seconds = min(seconds for seconds, _ in runs)
    assert seconds < 0.25, f"importing plcore takes {seconds:.2f} s more than NumPy and SciPy"


@pytest.mark.parametrize(
    ("package", "names", "extra"),
    [
        ("autograd", ["architectures"], "architectures"),
        ("flint", ["verification", "verify"], "certificates"),
        ("joblib", ["constants_study", "experiments", "fair_race"], "experiments"),
        ("matplotlib", ["figures"], "figures"),
    ],
)
def test_a_missing_extra_is_named(package, names, extra):
    script = (
        f"import sys; sys.modules[{package!r}] = None; import plcore\n"
        f"for name in {names}:\n"
        "    try: getattr(plcore, name)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
    )
    said = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    reason = f"needs the package {package}, which the extra plcore[{extra}] installs."
    assert said == [f"plcore.{name} {reason}" for name in names]
