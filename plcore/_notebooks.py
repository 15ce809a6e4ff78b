"""The book's notebooks: executed in place, stored in one form, and checked to be up to date."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from ._files import write

__all__ = ["faults", "normalize", "refresh", "source_hash"]

# One thread each: the stored numbers don't depend on how a machine splits its sums.
_THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
_SECONDS_PER_CELL = 120
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_KEPT_CELL_METADATA = ("mystnb", "tags")
# Figures that the README and the landing page show too, by their names in the chapters.
_PICTURES = {"fig-race": "figure-1.png"}
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def source_hash(notebook: Any) -> str:
    """Return a hash of a notebook's code, which tells whether its outputs are of this code."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16]


def normalize(notebook: Any) -> None:
    """Bring a notebook to the form that the book stores, in place.

    Widget views and their state, timestamps, tool-specific metadata and versions go; cells are
    counted 1, 2, …; consecutive texts on one stream become one; cells without a name of their own
    get one from their content.
    """
    import nbformat

    refreshed = notebook.metadata.get("plcore", {}).get("code")
    notebook.metadata = nbformat.from_dict({**_METADATA, "plcore": {"code": refreshed}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    names: set[str] = set()
    for cell in notebook.cells:
        name = cell.get("id")
        if not name or name in names:
            name = hashlib.sha256(f"{len(names)} {cell.source}".encode()).hexdigest()[:8]
        cell["id"] = name
        names.add(name)
        kept = {key: cell.metadata[key] for key in _KEPT_CELL_METADATA if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = _normal_outputs(cell.outputs, count)


def _normal_outputs(outputs: list[Any], count: int) -> list[Any]:
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif output.output_type != "error":
            output.data.pop(_WIDGET_VIEW, None)
            output.metadata = {}
            if output.output_type == "execute_result":
                output.execution_count = count
            if not output.data:
                continue
        kept.append(output)
    return kept


def _stale_pictures(path: Path, notebook: Any) -> dict[Path, bytes]:
    """Return the files of `_PICTURES` that are not as the notebook's outputs, with their bytes."""
    stale = {}
    for cell in notebook.cells:
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        if name in _PICTURES:
            file = path.parent / "_static" / _PICTURES[name]
            shown = [output.get("data", {}).get("image/png") for output in cell.outputs]
            picture = base64.b64decode(next(filter(None, shown)))
            if not file.is_file() or file.read_bytes() != picture:
                stale[file] = picture
    return stale


def refresh(path: Path) -> bool:
    """Execute a notebook in a fresh kernel and store its outputs; return whether it changed.

    A figure that stands outside the chapters too is written to its file.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails; the file is left as it was.
    """
    import nbformat
    from nbclient import NotebookClient

    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute(env={**os.environ, **_THREADS, "TQDM_DISABLE": "1"})
    notebook.metadata["plcore"] = {"code": source_hash(notebook)}
    normalize(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        write(path, after.encode())
    pictures = _stale_pictures(path, notebook)
    for file, picture in pictures.items():
        file.parent.mkdir(exist_ok=True)
        write(file, picture)
    return after != before or bool(pictures)


def faults(path: Path) -> list[str]:
    """Return what keeps a notebook from being as `refresh` leaves it, a sentence each."""
    import nbformat

    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and cell.execution_count is None:
            found.append(f"cell {number} was never executed, or its outputs were stripped")
    if notebook.metadata.get("plcore", {}).get("code") != source_hash(notebook):
        found.append("the code was edited after its outputs were stored")
    normalize(notebook)
    if not found and nbformat.writes(notebook) + "\n" != text:
        found.append("the file isn't in the form that the refresh command writes")
    if not found:
        found += [f"{file} isn't the stored figure" for file in _stale_pictures(path, notebook)]
    return found
