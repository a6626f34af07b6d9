"""The folder of one training run: its lock, its config, and the paths of its files.

config.json     the config as asked for, and as resolved for this corpus and machine
data/           the prepared corpus: token ids, dev and test text, tokenizers, report
states/         last.safetensors to resume from, best-*.safetensors to export
log.jsonl       losses, speed and dev scores; tensorboard/ and curves.png show the same
scores.json     scores of exported states on dev and test
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.system.atomic_files import write_json
from training.config import ResolvedConfig, TrainingConfig
from training.errors import RunError
from training.loop.state import LAST
from training.recipe_file import describe_mistakes, differences

# Settings that may change when a run is resumed: its limits, and its step size after divergence.
CHANGEABLE = (
    "optimization.max_epochs",
    "optimization.max_steps",
    "optimization.learning_rate",
    "optimization.clip_norm",
    "validation.patience",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths and config of a run."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def states(self) -> Path:
        return self.path / "states"

    @property
    def scores(self) -> Path:
        return self.path / "scores.json"

    @property
    def started(self) -> bool:
        """Whether a config was written, so that the run can be resumed or exported."""
        return (self.path / "config.json").is_file()

    @property
    def foreign(self) -> bool:
        """Whether the folder holds files that no training run wrote."""
        if not self.path.is_dir():
            return self.path.exists()
        return not self.started and any(
            path.name not in ("data", "states") and not path.name.startswith(".")
            for path in self.path.iterdir()
        )

    @property
    def has_state(self) -> bool:
        """Whether there is a run state to resume from."""
        return (self.states / LAST).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder and locks it against other runs; the lock ends with the process."""
        self.states.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"run folder {self.path} is locked by another training process; wait until it "
                    f"ends, or name another folder with --run"
                ) from None
            for leftover in self.states.glob(".*.tmp"):  # from a run killed while saving
                leftover.unlink()
            try:
                yield
            finally:
                if not self.started:
                    self._remove_if_empty()

    def write_config(
        self, asked: TrainingConfig, resolved: ResolvedConfig, parent: str | None
    ) -> None:
        """Records the config before training; from then on the run can be resumed.

        `parent` is the name and version of the checkpoint that a retraining starts from.
        """
        content = {
            "asked": asked.model_dump(mode="json"),
            "resolved": resolved.model_dump(mode="json"),
            "parent": parent,
        }
        write_json(self.path / "config.json", content)

    def _remove_if_empty(self) -> None:
        """Removes the lock and the empty folders of a run that failed before its start."""
        (self.path / ".lock").unlink(missing_ok=True)
        for folder in (self.states, self.path):
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()

    def asked_config(self) -> TrainingConfig:
        """Reads the config as it was asked for."""
        with self._named_mistakes():
            return TrainingConfig.model_validate(self._read()["asked"])

    def resolved_config(self) -> ResolvedConfig:
        """Reads the config that the run trains with, which has a value for every setting."""
        with self._named_mistakes():
            return ResolvedConfig.model_validate(self._read()["resolved"])

    def _read(self) -> dict[str, Any]:
        path = self.path / "config.json"
        try:
            content: Any = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise RunError(f"{self.path} is no run folder: it has no config.json") from None
        except ValueError:
            raise RunError(f"{path} is damaged: it is not JSON; start a new run") from None
        if not isinstance(content, dict) or not content.keys() >= {"asked", "resolved", "parent"}:
            raise RunError(f"{self.path} is no run folder: its config.json is of another kind")
        return content

    @contextmanager
    def _named_mistakes(self) -> Iterator[None]:
        """Turns the mistakes of a config that cannot be validated into a RunError."""
        try:
            yield
        except ValidationError as error:
            raise RunError(
                f"{self.path}/config.json does not fit this version of Dragoman: "
                f"{describe_mistakes(error)}; start a new run"
            ) from None

    def parent(self) -> str | None:
        """Returns name and version of the checkpoint that this run retrains, or None."""
        parent: str | None = self._read()["parent"]
        return parent


def first_difference(before: TrainingConfig, now: TrainingConfig) -> str | None:
    """Returns the first changed setting that must not change on resume, with both values."""
    changed = differences(before.model_dump(mode="json"), now.model_dump(mode="json"))
    return next((text for key, text in changed if key not in CHANGEABLE), None)
