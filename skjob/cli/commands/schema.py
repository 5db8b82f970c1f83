"""`skjob schema`: the JSON Schema of a job file, on stdout, for an editor or for a reader.

It is generated from the models that read a job file, so the two cannot disagree.
"""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of a job file."""
    import json

    from skjob.jobfile.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
