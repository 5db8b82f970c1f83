"""Check what can be known of a program before it runs."""

from __future__ import annotations

import ast
import shlex
import warnings
from pathlib import Path

from skjob.config.plan import JobSpec
from skjob.errors import ConfigError
from skjob.utils.run_module import module_command, relative_import


def check_program(job: JobSpec) -> None:
    """Check all that can be known of a program before anything starts.

    Raises:
        ConfigError: with everything that is wrong with a job file, or the first thing that is wrong with a script.
    """
    if not job.declared:
        check_script(job.path, job.module)
        return
    from skjob.jobfile.loader import read_job

    hint = "a job file says everything itself; `skjob schema` prints its format"
    problems = [f"a job file takes no arguments, and there are `{shlex.join(job.arguments)}`"] * bool(job.arguments)
    try:
        read_job(job.path)
    except ConfigError as error:
        problems, hint = [*problems, *error.problems], error.hint or hint
    if problems:
        raise ConfigError.collect(problems, hint)


def check_script(path: Path, module: str | None = None) -> None:
    """Check all that can be known of a script before anything starts. `module` is its name if it runs as a module.

    Raises:
        ConfigError: it does not exist, cannot be read, is not valid Python, or begins with what only a module can do;
            with the place.
    """
    if module is not None and path.suffix != ".py":
        return  # compiled, or in a zip file: Python reads it
    if not path.exists():
        raise ConfigError(f"there is no script `{path}`", "check the path; it is relative to the working directory")
    if path.is_dir():
        raise ConfigError(f"`{path}` is a folder", "name the script to run in it")
    # Python takes them: JSON is an expression that says nothing, up to its first `null`.
    if path.suffix == ".ipynb":
        hint = f"`jupyter nbconvert --to script {path}` makes a script of it, or use `skjob.cluster()` in it"
        raise ConfigError(f"`{path}` is a notebook", hint)
    if path.suffix in (".json", ".toml"):
        raise ConfigError(f"`{path}` is not a script", "a job file ends in `.yaml`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will show them
            source = path.read_bytes()
            compile(source, str(path), "exec", dont_inherit=True)
            found = relative_import(ast.parse(source)) if module is None else None
    except SyntaxError as error:
        # Without a place, or with one before the first column, where the file as a whole is the matter.
        place = ":".join([str(path), *(str(n) for n in (error.lineno, error.offset) if n is not None and n > 0)])
        raise ConfigError(
            f"`{place}` is not valid Python: {error.msg}", "fix the script; nothing was started"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"`{path}` cannot be read as Python: {error}", "name a Python script or a job file"
        ) from error
    if found is not None:
        command = module_command(path, found.level, Path.cwd())
        hint = f"run it as a module of its package: {command}" if command else "import by the full name of the module"
        raise ConfigError(
            f"`{path}:{found.lineno}` is a relative import, which a script that is run by its path cannot do", hint
        )
