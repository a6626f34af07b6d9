"""The compose file: by the specification's own schema, and at one with the Dockerfile."""

import json
import math
import subprocess
import sys

import pytest

from service.http.app import CLOSE_TIMEOUT_S
from service.settings import load_settings
from tests.deploy.manifests import DEPLOY, ROOT, VERSION, dockerfile, read_yaml


def test_the_specification_allows_it() -> None:
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([sys.executable, *command, str(DEPLOY / "compose.yaml")], check=True, timeout=60)


def test_it_runs_the_image_that_the_dockerfile_builds() -> None:
    service, image = read_yaml("compose.yaml")["services"]["dragoman"], dockerfile()
    assert service["image"] == f"dragoman:{VERSION}"
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert service["user"] == image["USER"]
    assert service["ports"] == [f"127.0.0.1:8000:{image['EXPOSE']}"]
    [models] = service["volumes"]
    assert (models["target"], models["read_only"]) == (image["VOLUME"], True)
    options, _, command = image["HEALTHCHECK"].partition(" CMD ")
    check = service["healthcheck"]
    assert check["test"] == ["CMD", *json.loads(command)]
    for option in options.split():
        name, _, value = option.removeprefix("--").partition("=")
        assert str(check[name.replace("-", "_")]) == value


def test_the_container_has_no_write_access_and_no_privileges() -> None:
    service = read_yaml("compose.yaml")["services"]["dragoman"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()


def test_it_waits_until_the_service_has_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    service = read_yaml("compose.yaml")["services"]["dragoman"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    drain_s = settings.drain_grace_s + math.ceil(settings.deadline_s) + 2 + CLOSE_TIMEOUT_S
    assert int(service["stop_grace_period"].removesuffix("s")) >= drain_s + 5
