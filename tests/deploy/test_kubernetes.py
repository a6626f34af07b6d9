"""The Kubernetes manifests: by Kubernetes' own schemas, and at one with the service they run."""

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.http.app import CLOSE_TIMEOUT_S, create_app
from service.settings import Settings, load_settings
from tests.deploy.manifests import DEPLOY, VERSION, dockerfile, read_yaml
from tests.service.fakes import fake_registry

FOLDER = DEPLOY / "kubernetes"
LABEL = {"app.kubernetes.io/name": "dragoman"}


def manifest(name: str) -> dict[str, Any]:
    return read_yaml(f"kubernetes/{name}.yaml")


@pytest.fixture
def pod() -> dict[str, Any]:
    spec = manifest("deployment")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture
def settings(container: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the pod's environment makes them."""
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    return load_settings()


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", manifest("kustomization")["resources"])
def test_kubernetes_knows_every_field(resource: str, version: str) -> None:
    document = manifest(resource.removesuffix(".yaml"))
    kubernetes_validate.validate(document, version, strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    kustomization = manifest("kustomization")
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    assert kustomization["images"] == [{"name": "dragoman", "newTag": VERSION}]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_operators_component_takes_the_annotations_place(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    shutil.copytree(FOLDER, overlay / "base")
    (overlay / "kustomization.yaml").write_text(
        "resources: [base]\ncomponents: [base/prometheus-operator]\n", encoding="utf-8"
    )
    built = subprocess.run(
        ["kubectl", "kustomize", str(overlay)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    kinds = {document["kind"]: document for document in yaml.safe_load_all(built)}
    assert "annotations" not in kinds["Deployment"]["spec"]["template"]["metadata"]
    assert kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == (
        f"dragoman:{VERSION}"
    )
    monitor = kinds["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"] == kinds["Service"]["metadata"]["labels"]
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in kinds["Service"]["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"


def test_all_select_the_same_pods(pod: dict[str, Any]) -> None:
    deployment = manifest("deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABEL
    assert deployment["spec"]["selector"]["matchLabels"] == LABEL
    assert manifest("service")["spec"]["selector"] == LABEL
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == LABEL
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == LABEL


def test_it_runs_the_image_that_the_dockerfile_builds(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    image, context = dockerfile(), pod["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image["USER"]
    assert [str(port["containerPort"]) for port in container["ports"]] == [image["EXPOSE"]]
    [mount], [volume] = container["volumeMounts"], pod["volumes"]
    assert (mount["mountPath"], mount["readOnly"]) == (image["VOLUME"], True)
    assert mount["name"] == volume["name"]
    claim = volume["persistentVolumeClaim"]["claimName"]
    assert claim == manifest("models")["metadata"]["name"]


def test_the_container_has_no_write_access_and_no_privileges(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_ports_and_paths_exist(container: dict[str, Any]) -> None:
    routes = create_app(fake_registry(Settings(), "en-de"), Settings()).asgi.openapi()["paths"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert "get" in routes[asked["path"]]
        assert asked["port"] in ports
    # Only readiness may look at the models: restarting a pod that loads or drains does not help.
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    [port] = manifest("service")["spec"]["ports"]
    assert port["targetPort"] in ports
    scraped = manifest("deployment")["spec"]["template"]["metadata"]["annotations"]
    assert "get" in routes[scraped["prometheus.io/path"]]
    assert int(scraped["prometheus.io/port"]) in ports.values()


def test_starting_gets_as_long_as_in_the_dockerfile(container: dict[str, Any]) -> None:
    probe = container["startupProbe"]
    found = re.search(r"--start-period=([0-9]+)s", dockerfile()["HEALTHCHECK"])
    assert found is not None
    assert probe["periodSeconds"] * probe["failureThreshold"] >= int(found[1])


def test_it_waits_until_the_service_has_drained(pod: dict[str, Any], settings: Settings) -> None:
    drain_s = settings.drain_grace_s + math.ceil(settings.deadline_s) + 2 + CLOSE_TIMEOUT_S
    assert pod["terminationGracePeriodSeconds"] >= drain_s + 5
    # Longer than it takes until all balancers have heard of it.
    assert settings.drain_grace_s >= 5


def test_more_pods_come_before_requests_are_refused(settings: Settings) -> None:
    spec = manifest("autoscaler")["spec"]
    target = spec["scaleTargetRef"]
    deployment = manifest("deployment")
    assert (target["apiVersion"], target["kind"]) == (deployment["apiVersion"], deployment["kind"])
    assert target["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    [metric] = spec["metrics"]
    milliseconds = metric["pods"]["target"]["averageValue"].removesuffix("m")
    assert 0.1 < int(milliseconds) / 1000 <= settings.max_queue_s / 4
    [rule] = read_yaml("prometheus/adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    assert rule["seriesQuery"].startswith(rule["name"]["matches"] + "{")
