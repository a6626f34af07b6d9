"""The folder that one training run owns, and what lies where in it.

config.json     the config as asked for, and as resolved for this corpus and machine
data/           the prepared corpus: token ids, dev and test text, tokenizers, report
states/         last.safetensors to resume from, best-*.safetensors to export
log.jsonl       the record of the run; tensorboard/ and curves.png show the same
scores.json     scores of exported states on dev and test
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.system.atomic_files import write_json
from training.config import TrainingConfig, describe_mistakes, differences
from training.errors import RunError
from training.loop.state import LAST

# A resumed run may be given more or less time, and smaller steps when it diverged; everything else
# must stay as it was.
CHANGEABLE = (
    "optimization.max_epochs",
    "optimization.max_steps",
    "optimization.learning_rate",
    "optimization.clip_norm",
    "validation.patience",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run."""

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
        """A config was written: the folder can be resumed or exported."""
        return (self.path / "config.json").is_file()

    @property
    def foreign(self) -> bool:
        """Something lies there that no run wrote, not even one that failed before its start."""
        if not self.path.is_dir():
            return self.path.exists()
        return not self.started and any(
            path.name not in ("data", "states") and not path.name.startswith(".")
            for path in self.path.iterdir()
        )

    @property
    def has_state(self) -> bool:
        """There is a run state to resume from."""
        return (self.states / LAST).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other runs out of it; the lock ends with the process."""
        self.states.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"another training run is writing to {self.path}") from None
            for leftover in self.states.glob(".*.tmp"):  # of a run that was killed while saving
                leftover.unlink()
            try:
                yield
            finally:
                if not self.started:
                    self._leave_nothing()

    def write_config(
        self, asked: TrainingConfig, resolved: TrainingConfig, parent: str | None
    ) -> None:
        """Records the config before training; from here on the run can be resumed.

        `parent` is the name and version of the checkpoint that a retraining starts from.
        """
        content = {
            "asked": asked.model_dump(mode="json"),
            "resolved": resolved.model_dump(mode="json"),
            "parent": parent,
        }
        write_json(self.path / "config.json", content)

    def _leave_nothing(self) -> None:
        """Takes back the empty folders of a run that did not come to its start."""
        (self.path / ".lock").unlink(missing_ok=True)
        for folder in (self.states, self.path):
            with suppress(OSError):  # something else lies in it
                folder.rmdir()

    def read_config(self, kind: str) -> TrainingConfig | None:
        """The config "asked" for or "resolved"; None when it was not recorded yet."""
        try:
            content = json.loads((self.path / "config.json").read_bytes())
            if "asked" not in content:
                raise RunError(f"{self.path} is no run folder: its config.json is of another kind")
            return TrainingConfig.model_validate(content[kind]) if kind in content else None
        except FileNotFoundError:
            raise RunError(f"{self.path} is no run folder: it has no config.json") from None
        except ValidationError as error:
            mistakes = describe_mistakes(error)
            raise RunError(f"{self.path}/config.json is of another version: {mistakes}") from None
        except (ValueError, TypeError):
            raise RunError(f"{self.path}/config.json is damaged; start a new run") from None

    def parent(self) -> str | None:
        """Name and version of the checkpoint this run goes on from."""
        content = json.loads((self.path / "config.json").read_bytes())
        return content.get("parent") if isinstance(content, dict) else None


def first_difference(before: TrainingConfig, now: TrainingConfig) -> str | None:
    """The first setting that may not change on resume and did, with both values."""
    changed = differences(before.model_dump(mode="json"), now.model_dump(mode="json"))
    return next((text for key, text in changed if key not in CHANGEABLE), None)
