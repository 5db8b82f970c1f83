"""Fetch scikit-learn's examples for the installed version: `python fetch_gallery.py FOLDER`.

They are in the source distribution. To download that, pip needs its metadata from the build backend, which would
compile all of scikit-learn. The archive also contains the metadata, and a build backend of four lines returns it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

BACKEND = """
from pathlib import Path


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    Path(folder, "scikit_learn.dist-info").mkdir()
    Path(folder, "scikit_learn.dist-info", "METADATA").write_bytes(Path("PKG-INFO").read_bytes())
    return "scikit_learn.dist-info"
"""


def fetch(folder: Path) -> None:
    """Write the examples to `folder`."""
    with TemporaryDirectory() as directory:
        Path(directory, "mesonpy.py").write_text(BACKEND)  # the name of scikit-learn's backend
        command = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
        arguments = ["--no-binary", ":all:", "--dest", directory, f"scikit-learn=={version('scikit-learn')}"]
        subprocess.run(
            [sys.executable, "-m", *command, *arguments], env=os.environ | {"PYTHONPATH": directory}, check=True
        )
        [archive] = Path(directory).glob("*.tar.gz")
        with tarfile.open(archive) as source:
            root = source.getnames()[0].partition("/")[0]
            for member in source.getmembers():
                path = Path(member.name)
                if path.parts[:2] == (root, "examples") and member.isfile():
                    member.name = str(path.relative_to(root, "examples"))
                    source.extract(member, folder, filter="data")


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
