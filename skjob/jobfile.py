"""Reads a job file and says everything that is wrong with it at once, each with its place: `job.yaml:12:5: ...`.

Three passes, none of which stops at its first finding: the text, the form and the meaning. Modules beside the job file
can be imported: its folder is on `sys.path` meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from skjob.job import DeclaredJob
from skjob.jobform import read_form
from skjob.jobmeaning import Meaning, importable_from
from skjob.jobtext import Findings, read_text


def read_job(path: Path) -> DeclaredJob:
    """The job that a file declares. ConfigError with all its problems, in the order of the file."""
    document = read_text(path)
    findings = Findings(path, document)
    for mark, location, message in document.problems:
        findings.at(mark, location, message)
    parts = read_form(document.content, findings)
    folder = path.resolve().parent
    with importable_from(folder):
        Meaning(parts, folder, findings).check()
    findings.raise_any()
    return DeclaredJob.model_validate(document.content)
