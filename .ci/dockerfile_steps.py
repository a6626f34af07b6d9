"""Carries out the Dockerfile without a docker engine: builds it, starts it, asks its health check.

Reads the Dockerfile itself, so the two cannot drift apart; an instruction it does not know is an
error. A fresh virtual environment stands for the base image, and a private mount namespace for the
container: the root filesystem read-only, the user the Dockerfile's, the environment its own. That
needs root; for anyone else the server runs as they are, on a writable filesystem.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
START_LIMIT_S = 120
STOP_LIMIT_S = 30

# Arguments: the interpreter's folder, what hides it ("" if nothing does), a mount point, user and
# group, then the command. Hides the rest of that folder (a private home), as an image would.
CONTAINER = """
base=$1 hidden=$2 aside=$3 user=$4 group=$5; shift 5
if [ -n "$hidden" ]; then
    mkdir -p "$aside"
    mount --bind "$base" "$aside"
    mount -t tmpfs -o mode=755 tmpfs "$hidden"
    mkdir -p "$base"
    mount --bind "$aside" "$base"
fi
mount -o remount,bind,ro "$(stat -c %m "$aside/..")"
mount -o remount,bind,ro /
exec setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs -- "$@"
"""


class StepError(Exception):
    """A step of the Dockerfile that failed, in one sentence."""


@dataclass
class Image:
    """What the instructions read so far have made."""

    root: Path  # stands for / of the image
    arguments: dict[str, str]  # --build-arg
    environment: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    user: str = "0:0"
    volume: str = ""
    port: str = ""
    health_check: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    def inside(self, path: Path) -> Path:
        """Where a path of the image lies on this machine."""
        return self.root / (self.workdir / path).relative_to("/")

    @property
    def runtime_environment(self) -> dict[str, str]:
        return {"PATH": f"{self.venv}/bin:/usr/bin:/bin", "HOME": "/", **self.environment}


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile, continued lines joined."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, rest.strip())
        for name, _, rest in (line.partition(" ") for line in joined.split("\n"))
    ]


def carry_out(image: Image, name: str, rest: str) -> None:
    """One instruction; StepError for one that is unknown here."""
    match name:
        case "FROM" if rest.startswith("python:"):
            run([sys.executable, "-m", "venv", str(image.venv)], cwd=REPOSITORY)
        case "ARG":
            key, _, default = rest.partition("=")
            image.arguments.setdefault(key, default)
        case "ENV":
            key, _, value = rest.partition("=")
            image.environment[key] = value
        case "WORKDIR":
            image.workdir = Path(rest)
            image.inside(Path()).mkdir(parents=True)
        case "COPY":
            *sources, target = rest.split()
            copy(sources, image.inside(Path(target)), into_folder=target.endswith("/"))
        case "RUN" if rest.startswith("pip "):
            run(["sh", "-ec", rest], cwd=image.inside(Path()), environment=build_environment(image))
        case "USER":
            image.user = rest
        case "VOLUME":
            image.volume = rest
            (image.root / rest.lstrip("/")).mkdir()
        case "EXPOSE":
            image.port = rest
        case "HEALTHCHECK":
            image.health_check = exec_form(rest.partition(" CMD ")[2])
        case "ENTRYPOINT":
            image.entrypoint = exec_form(rest)
        case _:
            raise StepError(f"cannot carry out '{name} {rest}'; teach .ci/dockerfile_steps.py how")


def exec_form(text: str) -> list[str]:
    command = json.loads(text)
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise StepError(f"{text} is not a command as a JSON list of strings")
    return command


def build_environment(image: Image) -> dict[str, str]:
    """The machine's own, for what pip needs to reach a package index, under the image's."""
    machine = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "VIRTUAL_ENV", "MAKE"))
    }
    return {**machine, **image.arguments, **image.runtime_environment, "HOME": os.environ["HOME"]}


def copy(sources: list[str], target: Path, *, into_folder: bool) -> None:
    """COPY, leaving out what .dockerignore leaves out."""
    ignore = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    skipped = [line.removeprefix("**/") for line in ignore if line.startswith("**/")]
    for source in sources:
        if source not in allowed:
            raise StepError(f"COPY {source}: .dockerignore leaves it out")
        path = REPOSITORY / source
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns(*skipped))
        elif into_folder:
            shutil.copy(path, target / source)
        else:
            shutil.copy(path, target)


def run(command: list[str], *, cwd: Path, environment: dict[str, str] | None = None) -> None:
    print(f"+ {' '.join(command)}", flush=True)
    status = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if status:
        raise StepError(f"'{' '.join(command)}' ended with status {status}")


def as_in_container(image: Image, command: list[str]) -> list[str]:
    """The command for a private mount namespace as the image's user; unchanged unless root."""
    if os.geteuid() != 0:
        return command
    user, _, group = image.user.partition(":")
    if "0" in (user, group):
        raise StepError(f"USER {image.user} is root")
    base = Path(sys.base_prefix).resolve()
    closed = [folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001]
    hidden = str(closed[0]) if closed else ""
    prefix = ["unshare", "--mount", "sh", "-ec", CONTAINER, "container"]
    return [*prefix, str(base), hidden, str(image.root / "base"), user, group, *command]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def serve_and_check(image: Image) -> str:
    """Start the entry command on a tiny checkpoint, wait until healthy, stop it; what happened."""
    models = image.root / image.volume.lstrip("/")
    run([sys.executable, "-m", "tests.tiny_checkpoint", str(models / "tiny")], cwd=REPOSITORY)
    port = free_port()  # what `docker run -p` would map
    command = [str(models) if word == image.volume else word for word in image.entrypoint]
    check = [word.replace(f":{image.port}/", f":{port}/") for word in image.health_check]
    cwd, environment = image.inside(Path()), image.runtime_environment
    start = time.monotonic()
    server = subprocess.Popen(
        as_in_container(image, [*command, "--port", port]), cwd=cwd, env=environment
    )
    try:
        while subprocess.run(
            as_in_container(image, check),
            cwd=cwd,
            env=environment,
            check=False,
            capture_output=True,
        ).returncode:
            if server.poll() is not None:
                raise StepError(f"the server ended with status {server.returncode}")
            if time.monotonic() - start > START_LIMIT_S:
                raise StepError(f"not healthy after {START_LIMIT_S} s")
            time.sleep(0.5)
        healthy_s = time.monotonic() - start
        server.send_signal(signal.SIGTERM)
        status = server.wait(STOP_LIMIT_S)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    if status:
        raise StepError(f"SIGTERM ended the server with status {status}, not 0")
    where = "read-only as its own user" if os.geteuid() == 0 else "as the user who runs this"
    return f"Dockerfile: built, healthy after {healthy_s:.1f} s ({where}), stopped by SIGTERM"


def main() -> int:
    parser = argparse.ArgumentParser(description="Carry out the Dockerfile without docker.")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    arguments = dict(given.split("=", 1) for given in parser.parse_args().build_arg)
    with tempfile.TemporaryDirectory(prefix="dragoman-image-") as folder:
        image = Image(Path(folder), arguments)
        image.root.chmod(0o755)
        image_venv_has_training = (
            "import sys, importlib.util as u; sys.exit(bool(u.find_spec('training')))"
        )
        try:
            for name, rest in instructions((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")):
                carry_out(image, name, rest)
            run([f"{image.venv}/bin/pip", "check"], cwd=image.root)
            run([f"{image.venv}/bin/python", "-c", image_venv_has_training], cwd=image.root)
            print(serve_and_check(image))
        except StepError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
