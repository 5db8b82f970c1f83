"""Check the data and the outputs of a job: look up columns, and the folders to write to."""

from __future__ import annotations

import os
from pathlib import Path

from skjob.errors import ConfigError, did_you_mean
from skjob.jobfile.build import dataset_loaders
from skjob.jobfile.data.files import files_of, has_pattern, is_remote
from skjob.jobfile.data.table_size import table_of
from skjob.jobfile.imports import resolve_path
from skjob.jobfile.parser import Location
from skjob.jobfile.schema import Dataset, TableFile
from skjob.jobfile.validate_estimator import EstimatorValidator


class DataValidator(EstimatorValidator):
    """Checks the data and the outputs of a job against existing files and folders."""

    def _file(self, data: TableFile) -> None:
        try:
            columns = table_of(files_of(data.addresses, self.folder)).names
        except ConfigError as error:
            for problem in error.problems:
                self.diagnostics.at_value(("data", "path"), problem.replace(str(self.folder) + os.sep, ""))
            return
        features = list(data.features or ())
        columns_given: list[tuple[Location, str]] = [(("data", "target"), data.target)]
        columns_given += [(("data", "groups"), data.groups)] if data.groups else []
        columns_given += [(("data", "features", index), name) for index, name in enumerate(features)]
        for location, name in columns_given:
            if name not in columns:
                self.diagnostics.at_value(
                    location, f"`{data.display_name}` has no column `{name}`{did_you_mean(name, columns)}"
                )
        for index, name in enumerate(features):
            location = ("data", "features", index)
            if name in features[:index]:
                self.diagnostics.at_value(location, f"`{name}` is listed twice")
            elif name == data.target:
                self.diagnostics.at_value(location, f"`{name}` is the target")
        if data.target in columns and not features and not set(columns) - {data.target, data.groups}:
            self.diagnostics.at_value(("data", "path"), f"`{data.display_name}` has no column to learn from")

    def _file_alone(self) -> None:
        """Check that the data file exists even if something else in `data` is wrong."""
        content = self.diagnostics.document.content
        data = content.get("data") if isinstance(content, dict) else None
        path = data.get("path") if isinstance(data, dict) else None
        known = isinstance(path, str) and not is_remote(path) and not has_pattern(path)
        there = self._path(str(path), ("data", "path")) if known else None
        if there is not None and not there.exists():
            self.diagnostics.at_value(("data", "path"), f"`{path}` does not exist")

    def _path(self, text: str, location: Location) -> Path | None:
        """Resolve a path of the job file. Report a wrong one, and return None."""
        try:
            return resolve_path(self.folder, text)
        except ConfigError as error:
            self.diagnostics.at_value(location, error.message)
            return None

    def _dataset(self, data: Dataset) -> None:
        loaders = dataset_loaders()
        if data.loader not in loaders:
            suggestion = did_you_mean(data.loader, loaders)
            message = f"`sklearn.datasets` has no loader of samples and targets called `{data.loader}`{suggestion}"
            self.diagnostics.at_value(("data", "loader"), message)
            return
        given = dict(data.parameters)
        if "return_X_y" in given:
            del given["return_X_y"]
            self.diagnostics.at_key(("data", "parameters", "return_X_y"), "is always true in a job: leave it out")
        self._arguments(loaders[data.loader], given, ("data",))
        for name, value in given.items():
            self._value(value, ("data", "parameters", name))

    def _outputs(self) -> None:
        outputs, data = self.sections.outputs, self.sections.data
        if outputs is None:
            return
        if outputs.model is None and outputs.table is None:
            given = self.diagnostics.document.content["outputs"]
            if not given:
                self.diagnostics.at_key(("outputs",), "is empty: give `model`, `table` or both")
        for name, text in (("model", outputs.model), ("table", outputs.table)):
            location = ("outputs", name)
            if text is None or (path := self._path(text, location)) is None:
                continue
            if not path.parent.is_dir():
                self.diagnostics.at_value(location, f"folder `{Path(text).parent}` does not exist")
            elif not os.access(path.parent, os.W_OK | os.X_OK):
                self.diagnostics.at_value(location, f"folder `{Path(text).parent}` cannot be written to")
            elif path.is_dir():
                self.diagnostics.at_value(location, f"`{text}` is a folder")
            elif isinstance(data, TableFile) and str(path.resolve()) in self._data_files(data):
                self.diagnostics.at_value(location, f"`{text}` is the data file: it would be overwritten")

    def _data_files(self, data: TableFile) -> set[str]:
        """Return the data files on this machine, as far as they exist."""
        try:
            return {str(Path(file.url).resolve()) for file in files_of(data.addresses, self.folder) if not file.remote}
        except ConfigError:
            return set()
