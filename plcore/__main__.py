"""The command line: ``python -m plcore`` verifies and searches certificates, and runs notebooks.

``certify ARRAYS.npz CERTIFICATE.json --widths 50 10 10 1 --activation tanh`` searches for a proof
that gradient descent converges; ``verify CERTIFICATE.json ARRAYS.npz`` proves what it found, or
not; ``refresh`` executes the book's notebooks in place.  ARRAYS.npz holds X, y and w.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from . import activations
from ._files import write
from ._notebooks import faults, refresh
from .claims import Certificate
from .network import FeedForward
from .objectives import LeastSquares

_ARRAYS = ("X", "y", "w")
_LARGEST_ARRAY = 2**32  # bytes
_LARGEST_TEXT = 2**26  # bytes; what a certificate can hold is far less


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read X, y and w from an .npz file, without ever unpickling anything.

    Raises
    ------
    ValueError
        If the file cannot be read, lacks an array, or holds one that is no array of numbers.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        for name in _ARRAYS:
            if f"{name}.npy" not in sizes:
                raise ValueError(f"{path} must hold the arrays X, y and w, but lacks {name}.")
            if sizes[f"{name}.npy"] > _LARGEST_ARRAY:
                raise ValueError(
                    f"The array {name} in {path} has more than {_LARGEST_ARRAY} bytes."
                )
        with np.load(path, allow_pickle=False) as arrays:
            for name in _ARRAYS:
                found[name] = _array(arrays, name, path)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{path} cannot be read as an .npz file: {reason}.") from error
    return found


def _array(arrays: Any, name: str, path: Path) -> np.ndarray:
    try:
        array = np.asarray(arrays[name])
    except Exception as error:  # a header can be wrong in ways that NumPy has many words for
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The array {name} in {path} is no plain array of numbers: {reason}."
        ) from error
    # What is proved is about float64 numbers: none may be rounded to become one.
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    if wide or (array.dtype.kind in "iu" and ((array > 2**53) | (array < -(2**53))).any()):
        raise ValueError(f"The array {name} in {path} is of numbers that float64 cannot hold.")
    return array


def _problem(arrays: dict[str, np.ndarray], widths: Any, names: Any) -> LeastSquares:
    hidden = tuple(activations.named(name) for name in names)
    if len(hidden) == 1:
        hidden = hidden * max(len(widths) - 2, 1)
    return LeastSquares(FeedForward(widths, hidden), arrays["X"], arrays["y"])


def _verify(options: argparse.Namespace) -> int:
    from .verification import verify

    try:
        with options.certificate.open("rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise ValueError(f"{options.certificate} has more than {_LARGEST_TEXT} bytes.")
        text = content.decode()
    except OSError as error:
        raise ValueError(f"{options.certificate} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{options.certificate} is not a text file in UTF-8.") from error
    certificate = Certificate.from_json(text)
    arrays = load_arrays(options.arrays)
    problem = _problem(arrays, certificate.widths, certificate.activations)
    verification = verify(certificate, problem, arrays["w"])
    print(verification)
    if verification.verified:
        print("Therefore:", *certificate.claims(), sep="\n  ")
    return 0 if verification.verified else 1


def _certify(options: argparse.Namespace) -> int:
    from .certificates import certify

    if os.path.realpath(options.certificate) == os.path.realpath(options.arrays):
        raise ValueError(f"The certificate would overwrite the arrays in {options.arrays}.")
    arrays = load_arrays(options.arrays)
    problem = _problem(arrays, options.widths, options.activation)
    found = certify(problem, arrays["w"])
    print(found)
    if isinstance(found, Certificate):
        try:
            write(options.certificate, found.to_json().encode())
        except OSError as error:
            raise ValueError(
                f"{options.certificate} cannot be written: {error.strerror}."
            ) from error
        return 0
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m plcore", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("verify", help="prove a certificate in ball arithmetic")
    command.add_argument("certificate", type=Path, help="a certificate, as JSON")
    command.add_argument("arrays", type=Path, help="an .npz file with X, y and w")

    command = commands.add_parser("certify", help="search for a certificate and write it")
    command.add_argument("arrays", type=Path, help="an .npz file with X, y and w")
    command.add_argument("certificate", type=Path, help="where to write it, as JSON")
    command.add_argument(
        "--widths", type=int, nargs="+", required=True, help="input, hidden widths and 1"
    )
    command.add_argument(
        "--activation", nargs="+", required=True, help="one for all hidden layers, or one for each"
    )

    command = commands.add_parser(
        "refresh", help="execute notebooks in place and store their outputs"
    )
    command.add_argument(
        "notebooks", nargs="*", type=Path, help="by default every notebook in chapters/"
    )
    command.add_argument(
        "--check", action="store_true", help="change nothing; fail if a refresh is due"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 0 if what was asked for came out, 1 if not, and 2 if the input cannot be used.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "refresh":
        return _notebooks(options, parser)
    try:
        return _verify(options) if options.command == "verify" else _certify(options)
    except (ValueError, TypeError, OverflowError, MemoryError, ImportError) as error:
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 2


def _notebooks(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    paths = options.notebooks or sorted(Path("chapters").glob("*.ipynb"))
    if not paths:
        parser.error("there are no notebooks in chapters/ here; name some, or change the folder")
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    return _check(paths) if options.check else _refresh(paths)


def _check(paths: list[Path]) -> int:
    status = 0
    for path in paths:
        for fault in faults(path):
            status = 1
            print(f"{path}: {fault}")
    return status


def _refresh(paths: list[Path]) -> int:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    for path in paths:
        begin = time.perf_counter()
        try:
            changed = refresh(path)
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"{path}: left as it was, since a cell failed\n{error}", file=sys.stderr)
            return 1
        word = "refreshed" if changed else "unchanged"
        print(f"{path}: {word}, executed in {time.perf_counter() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
