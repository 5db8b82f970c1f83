"""The programs of examples/, for the tests that run them here and those that run them on Kubernetes.

They are those that lie in the folder, so that none can be forgotten. What a program found is what it prints, without
seconds and without what a library logs beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

from story import EXAMPLES, FITTED

BRINGS_ITS_CLUSTER = "notebook_style.py"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != BRINGS_ITS_CLUSTER)
JOBS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))

SCORES = "scores.json"
ARGUMENTS = {
    "digits_grid_search.py": [SCORES],  # with every digit
    "scaled_up_search.py": ["--candidates", "3", "--seconds", "0.2"],
}

SUCCEEDED = {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


def found(printed: str) -> list[str]:
    """The lines that a program printed, with its seconds masked: there are some, in each."""
    assert FITTED.search(printed), printed
    lines = FITTED.sub("fitted in … s", printed).splitlines()
    return [line for line in lines if not line.startswith("[LightGBM] ")]  # of its ports, whatever `verbose` says


def scores(folder: Path) -> dict[str, object]:
    """What the grid search wrote there, without times; nothing where another program ran."""
    written = json.loads((folder / SCORES).read_text()) if (folder / SCORES).exists() else {}
    return {name: values for name, values in written.items() if "_time" not in name}
