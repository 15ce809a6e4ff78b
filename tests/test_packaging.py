"""What is declared is what is used: dependencies, the lock, licenses, workflows, code style."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import user_program
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK_LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
# It includes every other extra but those that only measure.
LOCKED_EXTRA = "test"

PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "win32": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}
PYTHONS = ["3.11", "3.12", "3.13"]


def environment(python, platform):
    versions = {"python_version": python, "python_full_version": f"{python}.9"}
    return default_environment() | PLATFORMS[platform] | versions


def applies(requirement, in_environment, extra=""):
    marker = requirement.marker
    return marker is None or marker.evaluate({**in_environment, "extra": extra})


def expand(extra):
    """Requirements of plcore with `extra`, the extras named inside it expanded."""
    found = []
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        if requirement.name == "plcore":
            for inner in requirement.extras:
                found += expand(inner)
        else:
            found.append(requirement)
    return found


def pinned(in_environment):
    """The lock's pins in one environment, by canonical name."""
    pins = {}
    for line in LOCK_LINES:
        if line and not line.lstrip().startswith("#") and line != "-e .":
            requirement = Requirement(line)
            if applies(requirement, in_environment):
                name = canonicalize_name(requirement.name)
                assert name not in pins, f"requirements.txt pins {name} twice"
                pins[name] = Version(re.fullmatch(r"==([^,]+)", str(requirement.specifier))[1])
    return pins


def test_lock_installs_plcore_itself_and_names_no_host():
    text = "\n".join(LOCK_LINES)
    assert LOCK_LINES.count("-e .") == 1
    assert "://" not in text
    assert "--" not in re.sub(r"(?m)^#.*$", "", text)  # no index option, no hash


def test_lock_says_how_it_was_made():
    header = [line for line in LOCK_LINES[:3] if line.startswith("#")]
    assert f"echo '-e .[{LOCKED_EXTRA}]' | uv pip compile - --universal" in header[-1]
    assert "--python-version 3.11" in header[-1]


def test_locked_extra_includes_all_but_what_only_measures():
    wanted = {
        str(requirement)
        for extra in EXTRAS
        if not extra.startswith(("benchmark", "mutation"))
        for requirement in expand(extra)
    }
    assert wanted == {str(requirement) for requirement in expand(LOCKED_EXTRA)}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_one_allowed_version_of_each_dependency(python, platform):
    there = environment(python, platform)
    pins = pinned(there)
    for requirement in [*map(Requirement, PROJECT["dependencies"]), *expand(LOCKED_EXTRA)]:
        if applies(requirement, there):
            name = canonicalize_name(requirement.name)
            assert name in pins, f"requirements.txt pins no {name}"
            assert pins[name] in requirement.specifier, f"{name} {pins[name]}, not {requirement}"


def test_lock_pins_what_its_packages_need_in_turn():
    """From each installed package whose version is the lock's, every requirement is locked."""
    here = default_environment()
    pins = pinned(here)
    at_the_pin = 0
    for name, version in pins.items():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if Version(distribution.version) != version:
            continue
        at_the_pin += 1
        for requirement in map(Requirement, distribution.requires or []):
            if applies(requirement, here):
                needed = canonicalize_name(requirement.name)
                assert needed in pins, f"{name} needs {needed}, which requirements.txt lacks"
                assert requirement.specifier.contains(pins[needed], prereleases=True), (
                    f"{name} needs {requirement}, and requirements.txt has {pins[needed]}"
                )
    assert at_the_pin > 50


def test_every_lower_bound_is_stated():
    for requirement in [*map(Requirement, PROJECT["dependencies"]), *expand(LOCKED_EXTRA)]:
        assert ">=" in {specifier.operator for specifier in requirement.specifier}, requirement


def imported_packages(path):
    """Outside packages that a module or the code cells of a notebook import."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        source = "\n".join(line for line in "\n".join(code).splitlines() if line[:1] not in "%!")
    else:
        source = path.read_text(encoding="utf-8")
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"plcore"}


@pytest.mark.parametrize(
    ("folder", "pattern", "extras"),
    [
        ("plcore", "*.py", ["figures", "experiments", "certificates", "book"]),
        ("chapters", "*.ipynb", ["book"]),
        ("chapters", "**/*.py", ["book"]),
        ("tests", "**/*.py", ["test", "mutation"]),
        ("benchmarks", "**/*.py", ["test", "benchmark", "benchmark-neural-tangents"]),
    ],
)
def test_every_import_is_declared(folder, pattern, extras):
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    declared |= {canonicalize_name(r.name) for extra in extras for r in expand(extra)}
    providers = metadata.packages_distributions()
    local = {path.stem for path in (ROOT / folder).rglob("*.py")}
    for path in sorted((ROOT / folder).glob(pattern)):
        for package in sorted(imported_packages(path) - local):
            names = {canonicalize_name(name) for name in providers.get(package, [package])}
            assert names & declared, f"{path.name} imports {package}, which no extra declares"


def test_license_and_citation():
    license_text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "BSD 3-Clause License" in license_text
    assert "Creative Commons Attribution 4.0 International" in license_text
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"] == metadata.version("plcore")
    assert citation["authors"] == [{"name": "The plcore authors"}]
    (paper,) = citation["references"]
    assert paper["authors"] == [{"family-names": "Chatterjee", "given-names": "Sourav"}]
    assert paper["identifiers"][0]["value"] == "arXiv:2203.16462"
    # No public address of the repository is known, so none is claimed.
    assert "urls" not in PROJECT
    assert not {"repository", "repository-code", "url"} & set(citation)


def run(*command, **options):
    return subprocess.run(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )


def tool(name):
    """Path of a command of this environment, which need not be on the PATH."""
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    assert path, f"{name} is not installed beside {sys.executable}"
    return path


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_workflows_pass_actionlint():
    assert WORKFLOWS
    result = run(tool("actionlint"), "-shellcheck", tool("shellcheck"), *map(str, WORKFLOWS))
    assert result.returncode == 0, result.stdout


def test_actionlint_finds_a_broken_workflow():
    broken = WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:")
    result = run(tool("actionlint"), "-", input=broken)
    assert result.returncode == 1
    assert "run-on" in result.stdout


def test_ci_script_passes_shellcheck():
    result = run(tool("shellcheck"), ".ci/run")
    assert result.returncode == 0, result.stdout


def test_code_style():
    for arguments in [("check", "--no-cache"), ("format", "--check", "--no-cache")]:
        result = run(tool("ruff"), *arguments)
        assert result.returncode == 0, result.stdout


def test_pre_commit_checks_with_the_locked_ruff():
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = settings["repos"]
    assert Version(repository["rev"]) == pinned(default_environment())["ruff"]
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format"]


def test_types(tmp_path):
    """The package ships `py.typed`, so its annotations hold, read with the locked versions."""
    pins = pinned(default_environment())
    for name in ["mypy", "numpy", "matplotlib"]:
        if Version(metadata.version(name)) != pins[name]:
            pytest.skip(f"the annotations are checked with the locked {name} {pins[name]} only")
    result = run(sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path))
    assert result.returncode == 0, result.stdout


def test_a_users_program():
    """`test_types` reads it, in strict mode; here it runs."""
    lines = user_program.main().splitlines()
    assert lines[0] == "Certificate of convergence"
    assert 0 < float(lines[-1]) < 1e-11
