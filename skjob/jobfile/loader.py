"""Reads a job file and says everything that is wrong with it at once, each with its place: `job.yaml:12:5: ...`.

Three passes, none of which stops at its first finding: the text, the form and the meaning. Modules beside the job file
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
    """The job that a file declares. ConfigError with all its problems, in the order of the file."""
    document = read_text(path)
    findings = Diagnostics(path, document)
    for mark, location, message in document.problems:
        findings.at(mark, location, message)
    parts = validate_schema(document.content, findings)
    folder = path.resolve().parent
    with importable_from(folder):
        Validator(parts, folder, findings).check()
    findings.raise_any()
    return DeclaredJob.model_validate(document.content)
