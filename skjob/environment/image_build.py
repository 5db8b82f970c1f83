"""Write an environment as the files of an image, to build it once instead of installing it for each run.

docker or podman builds from a Dockerfile, the pins, and the unpacked local distributions. The image serves as skjob's
`--image`: its Python is the first on the path, and nothing needs root or writes beside its code. It does not contain
skjob, which travels with each run, nor index settings, which the build gets as secrets.
"""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path

from skjob.environment.index.settings import AUTHORITY_FILE, IndexSettings
from skjob.environment.pod.archives import WITHOUT_OPENMP
from skjob.environment.pod.requirements import requirements_of

DOCKERFILE, REQUIREMENTS, LOCAL = "Dockerfile", "requirements.txt", "local"
INDEX_SECRET, AUTHORITY_SECRET = "index", "ca"

_PREFIX = "/opt/environment"


def dockerfile(python: str, pins: Mapping[str, str], *, local: bool, base: str | None = None) -> str:
    """Return the text of a Dockerfile for the folder that `write_context` fills.

    `python` is a minor version, `base` an image with that Python and pip: Python's own by default.
    """
    minor = tuple(map(int, python.split(".")))
    check = f'import sys; sys.exit(None if sys.version_info[:2] == {minor} else "the base image has another Python")'
    packages = [
        f"ARG BASE={base or f'python:{python}-slim'}",
        "",
        "FROM ${BASE} AS packages",
        "USER root",
        "WORKDIR /build",
        f"RUN python -c '{check}'",
        f"COPY {REQUIREMENTS} ./",
        f"RUN --mount=type=secret,id={INDEX_SECRET} --mount=type=secret,id={AUTHORITY_SECRET} \\",
        f"    if [ -s /run/secrets/{INDEX_SECRET} ]; then set -a; . /run/secrets/{INDEX_SECRET}; set +a; fi \\",
        f" && python -m venv --system-site-packages --without-pip {_PREFIX} \\",
        f" && python -m pip --python {_PREFIX}/bin/python install --no-deps --ignore-installed --no-cache-dir \\",
        f"      --no-compile --disable-pip-version-check --requirement {REQUIREMENTS}",
    ]
    if local:
        packages.append(f"COPY {LOCAL}/ {_PREFIX}/lib/python{python}/site-packages/")
    packages += [
        "# pods cannot write byte code; files that cannot be compiled, such as templates, are not imported either",
        f"RUN python -m compileall -q {_PREFIX} > /dev/null || true",
        "",
    ]
    image = ["FROM ${BASE}", "USER root"]
    if WITHOUT_OPENMP & pins.keys():
        image += [
            r"RUN ldconfig -p | grep -q 'libgomp\.so\.1' \ ".rstrip(),
            " || { apt-get update && apt-get install --yes --no-install-recommends libgomp1 \\",
            "      && rm -rf /var/lib/apt/lists/*; }",
        ]
    image += [
        "# a name for the user's number, because getpass.getuser() fails without one",
        "RUN grep -q ':1000:' /etc/passwd || echo 'skjob:x:1000:1000:skjob:/tmp:/usr/sbin/nologin' >> /etc/passwd",
        f"COPY --from=packages {_PREFIX} {_PREFIX}",
        "# the root file system is read-only in the pods, /tmp is not",
        f"ENV PATH={_PREFIX}/bin:$PATH \\",
        f"    VIRTUAL_ENV={_PREFIX} \\",
        "    HOME=/tmp \\",
        "    PYTHONDONTWRITEBYTECODE=1 \\",
        "    PYTHONUNBUFFERED=1",
        "USER 1000:1000",
        "WORKDIR /tmp",
        'CMD ["python"]',
        "",
    ]
    return "\n".join(packages + image)


def write_context(folder: Path, text: str, pins: Mapping[str, str], archive: bytes) -> None:
    """Fill the folder that an image is built from. `archive` holds the local distributions; it may be empty."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCKERFILE).write_text(text, encoding="utf-8")
    (folder / REQUIREMENTS).write_text(requirements_of(pins), encoding="utf-8")
    if archive:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(folder / LOCAL)


def write_secrets(folder: Path, index: IndexSettings) -> dict[str, Path]:
    """Write the files of the build's secrets, and return them by name. The folder must be private."""
    secrets = {}
    variables = index.pip_variables(Path("/run/secrets"))
    if index.authority:
        secrets[AUTHORITY_SECRET] = folder / AUTHORITY_FILE
        secrets[AUTHORITY_SECRET].write_bytes(index.authority)
        variables["PIP_CERT"] = f"/run/secrets/{AUTHORITY_SECRET}"
    if variables:
        secrets[INDEX_SECRET] = folder / "index.env"
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
        secrets[INDEX_SECRET].write_text("".join(lines), encoding="utf-8")
    return secrets
