"""Notebooks under test: one BLAS thread, and no progress bar among the compared outputs."""

import os

os.environ["TQDM_DISABLE"] = "1"
for library in ("OMP", "OPENBLAS", "MKL", "BLIS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

# The extensions of Sphinx hold no examples; the build itself tests them.
# Nor does this file, which has a namesake among the tests.
collect_ignore = ["_extensions", "conftest.py"]
