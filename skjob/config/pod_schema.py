"""The form of the key `pods`: Pydantic checks each value, and what several values have to do with each other follows.

All mistakes are found at once, so the second part looks at the text as it is, right or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from skjob.config.environment_variables import VARIABLE_NAME
from skjob.config.pod_settings import (
    DEFAULT_TOKEN_SECONDS,
    NO_SIDECAR,
    TOKEN_FILE,
    PodMount,
    PodSettings,
    PodSettingsError,
    PodVariable,
    refused_folder,
    refused_key,
    refused_variable,
)
from skjob.errors import did_you_mean

SOURCES = ("persistentVolumeClaim", "configMap", "secret", "serviceAccountToken")
"""What a mount can be of, by the fields of a volume, or of a projected one."""

API_AUDIENCES = re.compile(
    r"(https?://)?kubernetes(\.default.*)?|https://container\.googleapis\.com/.*|https://oidc\.eks\..*|.*\.azmk8s\.io.*"
)
"""Audiences by which an API server knows a token to be for itself: Kubernetes' own name, and clouds' issuers."""

MIN_TOKEN_SECONDS, MAX_TOKEN_SECONDS = 600, 86400
"""The least that Kubernetes takes, and a day: a service may take a token when its pod has gone."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_DATA_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f]*")
_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_SUB_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_AUDIENCE = re.compile(r"[!-~]{1,500}")


def _matching(pattern: re.Pattern[str], words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{words}, not `{text}`")
        return text

    return check


def _allowed(why_not: Callable[[str], str], remedy: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if why := why_not(text):
            raise ValueError(f"is `{text}`: {why}; {remedy}")
        return text

    return check


def _label_key(key: str) -> str:
    domain, slash, name = key.rpartition("/")
    if not _LABEL.fullmatch(name) or bool(slash) != bool(_NAME.fullmatch(domain)):
        raise ValueError("is not a name such as `example.org/cost-centre`")
    if why := refused_key(key):
        raise ValueError(f"cannot be set: {why}; leave it out")
    return key


def _label_value(text: str) -> str:
    if text and not _LABEL.fullmatch(text):
        raise ValueError(f"must be at most 63 letters, digits, `.`, `_` and `-`, not `{text}`")
    return text


def _line(text: str) -> str:
    if not _ONE_LINE.fullmatch(text):
        raise ValueError("must be one line of text: take line breaks and other control characters out of it")
    return text


def _why_not_mounted(path: str) -> str:
    own = refused_folder(path)
    return f"pods need `{own}` for themselves" if own else ""


def _why_no_audience(audience: str) -> str:
    return "the Kubernetes API itself takes such a token" if API_AUDIENCES.fullmatch(audience) else ""


def _lifetime(seconds: int) -> int:
    if not MIN_TOKEN_SECONDS <= seconds <= MAX_TOKEN_SECONDS:
        raise ValueError(f"must be {MIN_TOKEN_SECONDS} to {MAX_TOKEN_SECONDS} seconds, not {seconds}")
    return seconds


Name = Annotated[str, AfterValidator(_matching(_NAME, "must be the name of an object"))]
DataKey = Annotated[str, AfterValidator(_matching(_DATA_KEY, "must be a key of a Secret or ConfigMap"))]
Key = Annotated[str, AfterValidator(_label_key)]
VariableName = Annotated[
    str,
    AfterValidator(_matching(VARIABLE_NAME, "must be letters, digits and `_`, no digit first")),
    AfterValidator(_allowed(refused_variable, "choose another name, or leave it out")),
]
Path = Annotated[
    str,
    AfterValidator(
        _matching(_PATH, "must be an absolute path such as `/mnt/data`, without `..`, `.` and a `/` at its end")
    ),
    AfterValidator(_allowed(_why_not_mounted, "choose a folder such as `/mnt/data`")),
]
SubPath = Annotated[str, AfterValidator(_matching(_SUB_PATH, "must be a path within the volume such as `team/a`"))]
Audience = Annotated[
    str,
    AfterValidator(_matching(_AUDIENCE, "must be an audience such as `sts.amazonaws.com`, without spaces")),
    AfterValidator(_allowed(_why_no_audience, "name the service that the token is for")),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class KeyOfObject(_Part):
    """A key of a Secret or a ConfigMap."""

    name: Name
    key: DataKey


class ValueFrom(_Part):
    """Where the value of a variable is."""

    secretKeyRef: KeyOfObject | None = None
    configMapKeyRef: KeyOfObject | None = None


class Variable(_Part):
    """An environment variable, as in a container's `env`."""

    name: VariableName
    value: str | None = None
    valueFrom: ValueFrom | None = None


class Claim(_Part):
    """A PersistentVolumeClaim of the namespace."""

    claimName: Name


class ConfigMapVolume(_Part):
    """A ConfigMap of the namespace, a file for each of its keys."""

    name: Name


class SecretVolume(_Part):
    """A Secret of the namespace, a file for each of its keys."""

    secretName: Name


class Token(_Part):
    """A token of the pods' service account for somebody else than the Kubernetes API, in the file `token`."""

    audience: Audience
    expirationSeconds: Annotated[int, AfterValidator(_lifetime)] = DEFAULT_TOKEN_SECONDS


class Mount(_Part):
    """A volume and where it is mounted."""

    mountPath: Path
    readOnly: bool = True
    subPath: SubPath | None = None
    persistentVolumeClaim: Claim | None = None
    configMap: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    serviceAccountToken: Token | None = None


class Pods(_Part):
    """What the pods of runs have."""

    labels: dict[Key, Annotated[str, AfterValidator(_label_value)]] = Field(default_factory=dict)
    annotations: dict[Key, Annotated[str, AfterValidator(_line)]] = Field(default_factory=dict)
    imagePullSecrets: list[Name] = Field(default_factory=list)
    env: list[Variable] = Field(default_factory=list)
    mounts: list[Mount] = Field(default_factory=list)
    serviceAccountName: Name | None = None


def read_pods(content: Any) -> PodSettings:
    """Return the settings in what YAML has made of the key `pods`. Raise PodSettingsError with every mistake."""
    problems: list[tuple[str, str]] = []
    pods = Pods()
    try:
        pods = Pods.model_validate(content)
    except ValidationError as error:
        problems = [_described(each["loc"], each["type"], each) for each in error.errors()]
    if isinstance(content, dict):
        problems += _between(content)
    if problems:
        raise PodSettingsError(problems)
    return PodSettings(
        labels={**NO_SIDECAR, **pods.labels},
        annotations={**NO_SIDECAR, **pods.annotations},
        pull_secrets=tuple(pods.imagePullSecrets),
        variables=tuple(_variable(each) for each in pods.env),
        mounts=tuple(
            PodMount(each.mountPath, _volume(each), each.readOnly, each.subPath or "") for each in pods.mounts
        ),
        service_account=pods.serviceAccountName or "",
    )


def _variable(variable: Variable) -> PodVariable:
    for source, found in variable.valueFrom or ():
        if found is not None:
            return PodVariable(variable.name, source=source, name=found.name, key=found.key)
    return PodVariable(variable.name, value=variable.value or "")


def _volume(mount: Mount) -> dict[str, Any]:
    if mount.serviceAccountToken is not None:
        token = mount.serviceAccountToken.model_dump() | {"path": TOKEN_FILE}
        return {"projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o440}}
    source = next(name for name in SOURCES if getattr(mount, name) is not None)
    mode = {} if source == "persistentVolumeClaim" else {"defaultMode": 0o440}
    return {source: getattr(mount, source).model_dump() | mode}


# --- in words


def _described(location: tuple[int | str, ...], kind: str, error: Mapping[str, Any]) -> tuple[str, str]:
    """Return the place and the words of one of Pydantic's errors. Values are not quoted: some are secret."""
    place = _place(location)
    if kind == "missing":
        return _place(location[:-1]), f"lacks `{location[-1]}`: add it"
    if kind == "extra_forbidden":
        return _place(location[:-1]), f"has `{location[-1]}`, which there is not{_meant(location)}"
    if kind == "value_error":
        return place, str(error["ctx"]["error"])
    wanted = {
        "string_type": "must be text: put it in quotes",
        "bool_type": "must be `true` or `false`",
        "list_type": "must be a list",
        "int_type": "must be a whole number",
        "dict_type": "must be a map",
        "model_type": "must be a map",
    }
    return place, wanted.get(kind, f"is wrong: {str(error['msg']).lower()}")


def _place(location: tuple[int | str, ...]) -> str:
    parts = (part for part in location if part != "[key]")
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _meant(location: tuple[int | str, ...]) -> str:
    model: Any = {"env": Variable, "mounts": Mount}.get(str(location[0]), Pods) if len(location) > 1 else Pods
    return did_you_mean(location[-1], model.model_fields) or ": leave it out"


# --- what several values have to do with each other


def _between(content: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for place, variable in _maps(content, "env"):
        given = [name for name in ("value", "valueFrom") if variable.get(name) is not None]
        if len(given) != 1:
            yield place, "must have either `value` or `valueFrom`"
        source = variable.get("valueFrom")
        if isinstance(source, dict) and len({"secretKeyRef", "configMapKeyRef"} & set(source)) != 1:
            yield f"{place}.valueFrom", "must have either `secretKeyRef` or `configMapKeyRef`"
    for place, mount in _maps(content, "mounts"):
        given = [name for name in SOURCES if mount.get(name) is not None]
        if len(given) != 1:
            yield place, f"must have one of {', '.join(f'`{name}`' for name in SOURCES)}"
        elif mount.get("readOnly") is False and given != ["persistentVolumeClaim"]:
            yield f"{place}.readOnly", "can only be `false` for a `persistentVolumeClaim`: leave it out"
        if mount.get("subPath") is not None and "serviceAccountToken" in given:
            yield f"{place}.subPath", "has no meaning for a `serviceAccountToken`: leave it out"
    yield from _repeated((f"{place}.name", each.get("name")) for place, each in _maps(content, "env"))
    yield from _repeated((f"{place}.mountPath", each.get("mountPath")) for place, each in _maps(content, "mounts"))
    names = content.get("imagePullSecrets")
    if isinstance(names, list):
        yield from _repeated((f".imagePullSecrets[{number}]", name) for number, name in enumerate(names))


def _maps(content: Mapping[Any, Any], key: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    entries = content.get(key)
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield f".{key}[{number}]", entry


def _repeated(values: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for place, value in values:
        if isinstance(value, str) and value in seen:
            yield place, f"is `{value}`, as `pods{seen[value]}`: leave one of them out"
        elif isinstance(value, str):
            seen[value] = place
