"""Read a job file and report all of its problems at once, each with its place: `job.yaml:12:5: ...`.

Three passes check the text, the schema and the meaning; none stops at its first problem. Modules beside the job file
can be imported: its folder is on `sys.path` meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from skjob.jobfile.imports import importable_from
from skjob.jobfile.parser import Diagnostics, read_text
from skjob.jobfile.schema import DeclaredJob
from skjob.jobfile.validate import Validator
from skjob.jobfile.validate_schema import validate_schema


def read_job(path: Path) -> DeclaredJob:
    """Return the job that a file declares. Raise ConfigError with all of its problems, in the order of the file."""
    document = read_text(path)
    diagnostics = Diagnostics(path, document)
    for mark, location, message in document.problems:
        diagnostics.at(mark, location, message)
    sections = validate_schema(document.content, diagnostics)
    folder = path.resolve().parent
    with importable_from(folder):
        Validator(sections, folder, diagnostics).check()
    diagnostics.raise_if_any()
    return DeclaredJob.model_validate(document.content)
