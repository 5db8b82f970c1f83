"""Renders what is not written by hand: what the chart takes from elsewhere, and from the chart the plain manifests.

`make manifests` calls it. The custom resources are those of the installed dask-kubernetes, the users' rules those of
`skjob.deploy.kubernetes.api.rbac`. What the chart makes of `overlays/team-example/values.yaml` is cut in two: what a
cluster has once (`base`), and the team (`overlays/team-example`).
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from skjob.deploy.kubernetes.api.rbac import role_rules
from skjob.deploy.kubernetes.operator.manifests import definition_files

K8S = Path(__file__).parent
CHART = K8S.parent / "helm" / "skjob"
EXAMPLE = K8S / "overlays" / "team-example"
SECONDS = 120

Manifest = dict[str, Any]


def definitions() -> dict[Path, str]:
    """What the chart has from elsewhere: custom resources and users' rules."""
    folder = CHART / "definitions"
    rules = ",\n".join(f"  {json.dumps(rule)}" for rule in role_rules())
    files = {folder / path.name: path.read_text(encoding="utf-8") for path in definition_files()}
    return files | {folder / "user-rules.json": f"[\n{rules}\n]\n"}


def template(values: Path) -> list[str]:
    """The chart's manifests with these values, each as text: without custom resources and what only Helm runs."""
    command = ["helm", "template", "skjob", str(CHART), "--namespace", "skjob", "--set", "crds.enabled=false"]
    done = subprocess.run(
        [*command, "--values", str(values), "--no-hooks", "--kube-version", "1.30.0"],
        check=True, text=True, stdout=subprocess.PIPE, timeout=SECONDS,
    )  # fmt: skip
    text = re.sub(r"^# Source: .*\n", "", done.stdout, flags=re.MULTILINE)
    # It is not Helm that will look after them, nor will it read this.
    text = text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
    text = re.sub(r"^  annotations:\n(?:    #.*\n)?    helm.sh/resource-policy: keep\n", "", text, flags=re.MULTILINE)
    parts = (f"{part.strip()}\n" for part in re.split(r"^---\n", text, flags=re.MULTILINE))
    return [_named_for_its_team(part) for part in parts if yaml.safe_load(part)]


def manifests() -> dict[Path, str]:
    """The plain manifests of the example, by file."""
    files: dict[Path, list[str]] = {}
    for text in template(EXAMPLE / "values.yaml"):
        files.setdefault(_place(yaml.safe_load(text)), []).append(text)
    head = "# Rendered from the chart by `make manifests`.\n"
    return {path: head + "".join(f"---\n{text}" for text in texts) for path, texts in files.items()}


def _named_for_its_team(text: str) -> str:
    """A binding is the cluster's. The chart's holds for all teams; here each has its own, which replaces no other."""
    manifest = yaml.safe_load(text)
    if manifest["kind"] != "ValidatingAdmissionPolicyBinding":
        return text
    [teams] = manifest["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    [namespace] = teams["values"]
    name = f"\n  name: {manifest['metadata']['name']}"
    return text.replace(f"{name}\n", f"{name}-{namespace}\n", 1)


def _place(manifest: Manifest) -> Path:
    if manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "dask-kubernetes-operator":
        return K8S / "base" / "operator.yaml"
    once = manifest["kind"] == "ValidatingAdmissionPolicy"
    return K8S / "base" / "policies.yaml" if once else EXAMPLE / "team.yaml"


def main() -> None:
    for files in (definitions, manifests):
        for path, text in files().items():
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
