"""docs/running.md and deploy/ agree with the code: settings, proxies, units."""

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import uvicorn
import yaml

from service.commands.settings_table import settings_table, with_table
from service.http.app import CLOSE_TIMEOUT_S
from service.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
DEPLOY = DOCS.parent / "deploy"
TEXT = (DOCS / "running.md").read_text(encoding="utf-8")
SETTINGS = Settings()


def block(language: str, words: str) -> str:
    """The one block of code in this language that holds these words."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    [found] = [code for code in blocks if words in code]
    assert isinstance(found, str)
    return found


def read(*path: str) -> str:
    """A file under deploy/."""
    return DEPLOY.joinpath(*path).read_text(encoding="utf-8")


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return float(found[1])


def test_the_settings_are_those_of_the_code() -> None:
    hint = "run: python -m service.commands.settings_table docs/running.md"
    assert with_table(TEXT) == TEXT, hint
    assert "\n\n" not in settings_table()
    rows = [re.split(r"(?<!\\)\|", row) for row in settings_table().splitlines()]
    assert all(len(row) == 5 for row in rows)  # no stray bar in a description


def test_every_variable_it_names_is_a_setting() -> None:
    known = {f"DRAGOMAN_{name.upper()}" for name in Settings.model_fields}
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md", *DEPLOY.glob("**/*")):
        if page.is_file():
            named = re.findall(
                r"(?<!\$)\bDRAGOMAN_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")
            )
            assert set(named) <= known, page


def test_its_yaml_can_be_read() -> None:
    scrape = yaml.safe_load(block("yaml", "scrape_configs"))
    assert (DOCS / "../deploy/prometheus" / scrape["rule_files"][0]).is_file()
    assert scrape["scrape_configs"][0]["job_name"] == "dragoman"  # as the alerts take it
    overlay = yaml.safe_load(block("yaml", "Kustomization"))
    for path in (*overlay["resources"], *overlay["components"]):
        assert (DOCS.parent / path.removeprefix("dragoman/") / "kustomization.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "body", "answer", "idle"),
    [
        (
            "nginx.conf",
            r"client_max_body_size (\d+)m;",
            r"proxy_read_timeout (\d+)s",
            r"keepalive_timeout (\d+)s",
        ),
        (
            "Caddyfile",
            r"max_size (\d+)MB",
            r"response_header_timeout (\d+)s",
            r"keepalive (\d+)s",
        ),
    ],
)
def test_proxies_let_through_what_the_service_answers(
    name: str, body: str, answer: str, idle: str
) -> None:
    proxy = read("proxy", name)
    assert number(body, proxy) * 1_000_000 > SETTINGS.max_body_bytes
    assert number(answer, proxy) > SETTINGS.deadline_s
    assert number(idle, proxy) < uvicorn.Config("x:y").timeout_keep_alive


def test_systemd_waits_until_the_service_has_drained() -> None:
    drain_s = SETTINGS.drain_grace_s + math.ceil(SETTINGS.deadline_s) + 2 + CLOSE_TIMEOUT_S
    unit = read("systemd", "dragoman.service")
    assert number(r"TimeoutStopSec=(\d+)", unit) >= drain_s + 5


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    certificate = tmp_path / "translate.pem"
    key = tmp_path / "translate.key"
    command = "openssl req -x509 -newkey ed25519 -nodes -subj /CN=translate.example.org -days 1"
    subprocess.run(
        [*command.split(), "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
        timeout=60,
    )
    server = (
        read("proxy", "nginx.conf").replace("/etc/ssl/", f"{tmp_path}/").replace("443", "18443")
    )
    paths = "".join(
        f"{name}_temp_path {tmp_path};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
        f"{paths}{server}}}\n",
        encoding="utf-8",
    )
    command = f"nginx -t -p {tmp_path} -c {tmp_path}/nginx.conf"
    subprocess.run(command.split(), check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("caddy"), reason="needs caddy")
def test_caddy_takes_its_configuration(tmp_path: Path) -> None:
    command = f"caddy validate --adapter caddyfile --config {DEPLOY / 'proxy' / 'Caddyfile'}"
    subprocess.run(
        command.split(),
        check=True,
        timeout=60,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )
