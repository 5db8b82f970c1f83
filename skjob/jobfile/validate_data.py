"""Check the data and the outputs of a job: columns are looked up, and the folders that are written to."""

from __future__ import annotations

import os
from pathlib import Path

from skjob.errors import ConfigError
from skjob.jobfile.build import dataset_loaders
from skjob.jobfile.data.files import files_of, has_pattern, is_remote
from skjob.jobfile.data.table_size import table_of
from skjob.jobfile.imports import beside
from skjob.jobfile.parser import Location
from skjob.jobfile.schema import Dataset, TableFile
from skjob.jobfile.validate_estimator import EstimatorValidator
from skjob.utils.suggestions import did_you_mean


class DataValidator(EstimatorValidator):
    """Tries what a job says of data and outputs against what is there."""

    def _file(self, data: TableFile) -> None:
        try:
            columns = table_of(files_of(data.addresses, self.folder)).names
        except ConfigError as error:
            for problem in error.problems:
                self.findings.at_value(("data", "path"), problem.replace(str(self.folder) + os.sep, ""))
            return
        features = list(data.features or ())
        wanted: list[tuple[Location, str]] = [(("data", "target"), data.target)]
        wanted += [(("data", "groups"), data.groups)] if data.groups else []
        wanted += [(("data", "features", index), name) for index, name in enumerate(features)]
        for location, name in wanted:
            if name not in columns:
                self.findings.at_value(location, f"`{data.shown}` has no column `{name}`{did_you_mean(name, columns)}")
        for index, name in enumerate(features):
            location = ("data", "features", index)
            if name in features[:index]:
                self.findings.at_value(location, f"`{name}` is listed twice")
            elif name == data.target:
                self.findings.at_value(location, f"`{name}` is the target")
        if data.target in columns and not features and not set(columns) - {data.target, data.groups}:
            self.findings.at_value(("data", "path"), f"`{data.shown}` has no column to learn from")

    def _file_alone(self) -> None:
        """Where something else of `data` is wrong, whether its file is there can be said all the same."""
        content = self.findings.document.content
        data = content.get("data") if isinstance(content, dict) else None
        path = data.get("path") if isinstance(data, dict) else None
        known = isinstance(path, str) and not is_remote(path) and not has_pattern(path)
        there = self._path(str(path), ("data", "path")) if known else None
        if there is not None and not there.exists():
            self.findings.at_value(("data", "path"), f"`{path}` does not exist")

    def _path(self, text: str, location: Location) -> Path | None:
        """A path beside the job file; None where it is none, which is reported."""
        try:
            return beside(self.folder, text)
        except ConfigError as error:
            self.findings.at_value(location, error.message)
            return None

    def _dataset(self, data: Dataset) -> None:
        loaders = dataset_loaders()
        if data.loader not in loaders:
            near = did_you_mean(data.loader, loaders)
            message = f"`sklearn.datasets` has no loader of samples and targets called `{data.loader}`{near}"
            self.findings.at_value(("data", "loader"), message)
            return
        given = dict(data.parameters)
        if "return_X_y" in given:
            del given["return_X_y"]
            self.findings.at_key(("data", "parameters", "return_X_y"), "is always true in a job: leave it out")
        self._arguments(loaders[data.loader], given, ("data",))
        for name, value in given.items():
            self._value(value, ("data", "parameters", name))

    def _outputs(self) -> None:
        outputs, data = self.parts.outputs, self.parts.data
        if outputs is None:
            return
        if outputs.model is None and outputs.table is None:
            given = self.findings.document.content["outputs"]
            if not given:
                self.findings.at_key(("outputs",), "is empty: give `model`, `table` or both")
        for name, text in (("model", outputs.model), ("table", outputs.table)):
            location = ("outputs", name)
            if text is None or (path := self._path(text, location)) is None:
                continue
            if not path.parent.is_dir():
                self.findings.at_value(location, f"folder `{Path(text).parent}` does not exist")
            elif not os.access(path.parent, os.W_OK | os.X_OK):
                self.findings.at_value(location, f"folder `{Path(text).parent}` can't be written to")
            elif path.is_dir():
                self.findings.at_value(location, f"`{text}` is a folder")
            elif isinstance(data, TableFile) and str(path.resolve()) in self._data_files(data):
                self.findings.at_value(location, f"`{text}` is the data file: it would be overwritten")

    def _data_files(self, data: TableFile) -> set[str]:
        """Those on this machine, as far as they can be found."""
        try:
            return {str(Path(file.url).resolve()) for file in files_of(data.addresses, self.folder) if not file.remote}
        except ConfigError:
            return set()
