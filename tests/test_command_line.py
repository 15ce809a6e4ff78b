"""The command line: certify, verify, and files that are not what they claim to be."""

import io
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from certified import certified, example

import plcore
from plcore.__main__ import load_arrays, main
from plcore.claims import Certificate


@pytest.fixture(scope="module")
def single():
    """One problem, its weights and a true certificate."""
    problem, w = example((6, 5, 4, 1), 5, 1e-3)
    return problem, w, certified(problem, w, "first layer")


@pytest.fixture
def files(single, tmp_path):
    problem, w, certificate = single
    paths = tmp_path / "certificate.json", tmp_path / "arrays.npz"
    paths[0].write_text(certificate.to_json(), encoding="utf-8")
    np.savez(paths[1], X=problem.X, y=problem.y, w=w)
    return paths


def run(capsys, *arguments):
    """Exit status, output and errors of the command line."""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_verify_on_the_command_line(files, single, capsys):
    status, said, errors = run(capsys, "verify", *files)
    assert (status, errors) == (0, "")
    assert said.startswith("Verified")
    for claim in single[2].claims():
        assert claim in said


def test_it_is_one_command_on_another_machine(files):
    command = [sys.executable, "-m", "plcore", "verify", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=files[0].parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Verified")


def test_a_false_certificate_on_the_command_line(files, single, capsys):
    false = replace(single[2], rate=single[2].rate * (1 + 1e-6))
    files[0].write_text(false.to_json(), encoding="utf-8")
    status, said, errors = run(capsys, "verify", *files)
    assert (status, errors) == (1, "")
    assert said.startswith("Not verified")
    assert "Therefore" not in said


def refused(capsys, *arguments):
    status, said, errors = run(capsys, *arguments)
    assert (status, said) == (2, "")
    assert errors.count("\n") == 1
    assert errors.endswith(".\n")
    return errors


def test_files_that_cannot_be_used(files, single, capsys, tmp_path):
    certificate, arrays = files
    text = certificate.read_text(encoding="utf-8")
    missing = tmp_path / "missing"
    assert "cannot be read" in refused(capsys, "verify", missing, arrays)
    assert "cannot be read" in refused(capsys, "verify", certificate, missing)
    assert "cannot be read" in refused(capsys, "verify", tmp_path, arrays)
    assert "cannot be read" in refused(capsys, "verify", certificate, tmp_path)
    assert "cannot be read as an .npz file" in refused(capsys, "verify", certificate, certificate)
    assert "UTF-8" in refused(capsys, "verify", arrays, arrays)
    certificate.write_text(text[: len(text) // 2], encoding="utf-8")
    assert "not JSON" in refused(capsys, "verify", certificate, arrays)
    certificate.write_text(text.replace('"slack": ', '"slack": -'), encoding="utf-8")
    assert "slack" in refused(capsys, "verify", certificate, arrays)
    certificate.write_text(text, encoding="utf-8")
    whole = arrays.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 30):
        arrays.write_bytes(whole[:cut])
        assert "cannot be read as an .npz file" in refused(capsys, "verify", certificate, arrays)
    problem, w, _ = single
    np.savez(arrays, X=problem.X, y=problem.y)
    assert "lacks w" in refused(capsys, "verify", certificate, arrays)
    np.savez(arrays, X=problem.X, y=problem.y, w=np.full_like(w, np.nan))
    assert "w must be finite" in refused(capsys, "verify", certificate, arrays)
    np.savez(arrays, X=problem.X[:, :3], y=problem.y, w=w)
    assert "X must have d = 6 columns" in refused(capsys, "verify", certificate, arrays)
    np.savez(arrays, X=problem.X, y=problem.y.astype(str), w=w)
    assert "y must be an array of real numbers" in refused(capsys, "verify", certificate, arrays)


class Bomb:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def test_nothing_is_ever_unpickled(files, single, capsys, tmp_path):
    certificate, arrays = files
    problem, w, _ = single
    trace = tmp_path / "executed"
    bomb = np.array([Bomb(trace)], dtype=object)
    np.savez(arrays, X=problem.X, y=problem.y, w=bomb)
    said = refused(capsys, "verify", certificate, arrays)
    assert "w in" in said
    assert "is no plain array of numbers" in said
    arrays.write_bytes(pickle.dumps(Bomb(trace)))
    assert "cannot be read as an .npz file" in refused(capsys, "verify", certificate, arrays)
    # A member that is a bare pickle, or claims to be larger than it is, or has a wild header.
    good = {"X.npy": npy(problem.X), "y.npy": npy(problem.y), "w.npy": npy(w)}
    long = good["w.npy"].replace(b"(64,)", b"(10**9,)"[:5])
    wild = good["w.npy"].replace(b"'<f8'", b"[0]*9")
    for member in (pickle.dumps(Bomb(trace)), b"", b"\x93NUMPY", good["w.npy"][:100], long, wild):
        with zipfile.ZipFile(arrays, "w") as archive:
            for name, content in {**good, "w.npy": member}.items():
                archive.writestr(name, content)
        assert "w" in refused(capsys, "verify", certificate, arrays)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # the bomb was a live one


def test_an_array_too_large_to_hold_is_refused_before_it_is_read(files, monkeypatch):
    monkeypatch.setattr("plcore.__main__._LARGEST_ARRAY", 300)
    with pytest.raises(ValueError, match="has more than 300 bytes") as caught:
        load_arrays(files[1])
    assert "\n" not in str(caught.value)


def test_certify_and_verify_on_the_command_line(single, tmp_path, capsys):
    problem, w, _ = single
    arrays, certificate = tmp_path / "arrays.npz", tmp_path / "new.json"
    np.savez(arrays, X=problem.X, y=problem.y, w=w)
    shape = ["--widths", 6, 5, 4, 1, "--activation", "tanh"]
    status, said, errors = run(capsys, "certify", arrays, certificate, *shape)
    assert (status, errors) == (0, "")
    assert said.startswith("Certificate of convergence")
    assert run(capsys, "verify", certificate, arrays)[0] == 0
    best = plcore.certify(problem, w)
    assert Certificate.from_json(certificate.read_text(encoding="utf-8")) == best
    certificate.unlink()
    np.savez(arrays, X=problem.X, y=problem.y + 10, w=w)
    status, said, errors = run(capsys, "certify", arrays, certificate, *shape)
    assert (status, errors) == (1, "")
    assert said.startswith("Not shown")
    assert not certificate.exists()
    shape[-1] = "tanhh"
    assert "no activation 'tanhh'" in refused(capsys, "certify", arrays, certificate, *shape)
    shape = ["--widths", 6, 5, 1, "--activation", "tanh", "tanh"]
    assert "one activation for each" in refused(capsys, "certify", arrays, certificate, *shape)


@pytest.mark.parametrize("name", ["X", "y", "w"])
@pytest.mark.parametrize(
    "change", [lambda a: a.astype(np.longdouble), lambda a: np.full(a.shape, 2**53 + 1)]
)
def test_numbers_that_would_be_rounded_are_refused(tmp_path, capsys, name, change):
    arrays = {"X": np.ones((2, 3)), "y": np.ones(2), "w": np.ones(21)}
    np.savez(tmp_path / "arrays.npz", **{**arrays, name: change(arrays[name])})
    out = str(tmp_path / "c.json")
    options = ["--widths", "3", "4", "1", "--activation", "tanh"]
    assert main(["certify", str(tmp_path / "arrays.npz"), out, *options]) == 2
    assert "float64 cannot hold" in capsys.readouterr().err


def test_integers_and_narrow_floats_are_taken(tmp_path):
    whole, narrow = np.array([-(2**53), 2**53, 7]), np.ones(3, dtype=np.float32)
    np.savez(tmp_path / "arrays.npz", X=whole, y=narrow, w=np.array([2**53], dtype=np.uint64))
    found = load_arrays(tmp_path / "arrays.npz")
    assert (found["X"] == whole).all()
    assert (found["y"] == 1).all()
