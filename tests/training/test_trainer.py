"""The loop on a tiny network: it learns, keeps what is best, and ends when it should."""

import io
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from model.batch import SourceBatch
from model.config import ModelConfig
from model.dropout import DropoutRates
from model.seq2seq import Seq2Seq
from model.tokenizer import BOS, EOS
from tests.slow_step import slow_step
from training.batching import PairBatch, collate
from training.config import TrainingConfig
from training.curves import draw_curves
from training.errors import DivergenceError
from training.journal import Journal, read_log
from training.loop import train_loop
from training.run_state import load_run_state_place, load_weights_file
from training.token_store import TokenStore, write_token_store
from training.trainer import Trainer, Update
from training.validation import DevScores

FIRST_DIGIT, VOCAB = 4, 14
DATA = {
    "source_language": "en",
    "target_language": "de",
    "train": [{"source": "a", "target": "b"}],
}


def config(**sections: Any) -> TrainingConfig:
    optimization = {
        "learning_rate": 0.02,
        "warmup_steps": 5,
        "schedule": "constant",
        "batch_tokens": 200,
        "max_epochs": 2,
        "label_smoothing": 0.0,
        "precision": "fp32",
        **sections.pop("optimization", {}),
    }
    return TrainingConfig.model_validate({"data": DATA, "optimization": optimization, **sections})


def network(seed: int = 0, **choices: Any) -> Seq2Seq:
    torch.manual_seed(seed)
    small: dict[str, Any] = {
        "source_vocab_size": VOCAB,
        "target_vocab_size": VOCAB,
        "embedding_size": 16,
        "encoder_hidden": 16,
        "decoder_hidden": 32,
        "attention_size": 16,
    }
    rates = choices.pop("rates", None)
    return Seq2Seq(ModelConfig(**{**small, **choices}), rates)


def digits(count: int, seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 6, count)
    return [random.integers(FIRST_DIGIT, VOCAB, length).tolist() for length in lengths]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Strings of two to five digits and the same from the right."""
    folder = tmp_path_factory.mktemp("stores") / "reversed"
    with write_token_store(
        folder, source_vocab_size=VOCAB, target_vocab_size=VOCAB, weights=[1.0]
    ) as writer:
        for string in digits(600, seed=0):
            writer.append(string, string[::-1], 0)
    return TokenStore.open(folder)


class Run:
    """A trainer with its folder, its journal's lines, and dev scores made to measure."""

    def __init__(
        self, folder: Path, settings: TrainingConfig, seed: int = 0, **choices: Any
    ) -> None:
        self.folder = folder
        (folder / "states").mkdir(exist_ok=True)
        self.trainer = Trainer(network(seed, **choices), settings, folder / "states")
        self.said = io.StringIO()
        self.stop = threading.Event()
        self.steps_validated: list[int] = []
        self.scores: Callable[[int], float] = float  # dev BLEU after how many updates

    def validate(self) -> DevScores:
        step = self.trainer.place.step
        self.steps_validated.append(step)
        return DevScores(nll=1.0, bleu=self.scores(step), chrf=0.0, seconds=0.0, example="")

    def train(self, store: TokenStore) -> None:
        console = Console(file=self.said, width=1000)
        with Journal(
            self.folder,
            total_steps=100,
            resumed_step=self.trainer.place.step,
            console=console,
        ) as journal:
            train_loop(
                self.trainer,
                store,
                journal=journal,
                validate=self.validate,
                stop=self.stop,
                total_steps=100,
            )

    def saved(self, file: str) -> list[Tensor]:
        found = load_weights_file(self.folder / "states" / file)
        return [found[name] for name, _ in self.trainer.network.named_parameters()]

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "states").glob("best-*"))

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.trainer.network.parameters()]

    def weights_and_moments(self) -> list[Tensor]:
        state = self.trainer.optimizer.state
        moments = [value for p in self.trainer.network.parameters() for value in state[p].values()]
        return self.weights() + [moment.clone() for moment in moments]


@contextmanager
def poisoned(trainer: Trainer, steps: Callable[[int], bool]) -> Iterator[None]:
    """Makes the gradient of some updates NaN, as an explosion does."""
    original = trainer.network.readouts

    def readouts(source: SourceBatch, target_input: Tensor) -> Tensor:
        found = original(source, target_input)
        return found * math.nan if steps(trainer.place.step + 1) else found

    trainer.network.readouts = readouts  # type: ignore[method-assign]
    yield
    trainer.network.readouts = original  # type: ignore[method-assign]


def greedy(trained: Seq2Seq, source: list[int]) -> list[int]:
    state = trained.encode(SourceBatch.from_ids([[*source, EOS]]))
    words = [BOS]
    while words[-1] != EOS and len(words) < 10:
        step = slow_step(trained, torch.tensor(words[-1:]), state)
        words.append(int(step.logits.argmax()))
        state = step.state
    return words[1:-1]


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def pairs(count: int) -> PairBatch:
    strings = digits(count, seed=5)
    return collate(strings, [string[::-1] for string in strings])


def test_it_learns_to_reverse_strings_of_digits(store: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"max_epochs": 14, "learning_rate": 0.015, "warmup_steps": 20},
        validation={"every_steps": 10**6},
    )
    run = Run(tmp_path, settings)
    run.train(store)
    with torch.no_grad():
        trained = run.trainer.network.eval()
        unseen = digits(100, seed=99)
        right = sum(greedy(trained, string) == string[::-1] for string in unseen)
    assert right >= 90
    losses = [line["loss"] for line in read_log(tmp_path) if line["kind"] == "training"]
    assert losses[-1] < 0.2 < 2 < losses[0]


def test_the_same_seed_gives_the_same_weights(store: TokenStore, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        rates = DropoutRates(embedding=0.2, source_word=0.1)
        run = Run(tmp_path / name, config(seed=seed), seed, rates=rates)
        run.train(store)
        found.append(run.weights())
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_halves_accumulated_equal_one_batch(tmp_path: Path, smoothing: float) -> None:
    settings = config(optimization={"label_smoothing": smoothing, "clip_norm": 0.5})
    strings = digits(12, seed=5)
    backward = [string[::-1] for string in strings]
    whole = Run(tmp_path, settings)
    update = whole.trainer.update([collate(strings, backward)])
    halves = Run(tmp_path, settings)
    # Unequal halves: each counts by its tokens, not as one half.
    shares = [collate(strings[:3], backward[:3]), collate(strings[3:], backward[3:])]
    shared = halves.trainer.update(shares)
    assert shared.target_tokens == update.target_tokens
    assert shared.gradient_norm == pytest.approx(update.gradient_norm, rel=1e-4)
    assert shared.smoothed_loss == pytest.approx(update.smoothed_loss, rel=1e-5)
    # Adam's first step is the sign of the gradient; compare the gradient itself, in its moments.
    for one, other in zip(whole.weights_and_moments(), halves.weights_and_moments(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_accumulation_makes_fewer_updates_of_as_many_tokens(
    store: TokenStore, tmp_path: Path
) -> None:
    places = []
    for name, accumulate in (("a", 1), ("b", 3)):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, config(optimization={"accumulate": accumulate}))
        run.train(store)
        places.append(run.trainer.place)
    single, three = places
    per_epoch = single.step // 2
    assert three.step == 2 * math.ceil(per_epoch / 3)
    assert (
        three.target_tokens
        == single.target_tokens
        == 2 * int((store.target_lengths + 1).sum(dtype=int))
    )


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"clip_norm": 1e-3, "beta2": 0.5}))
    update = run.trainer.update([pairs(12)])
    assert update.gradient_norm > 0.1  # told as it was before clipping
    moments = [run.trainer.optimizer.state[p]["exp_avg"] for p in run.trainer.network.parameters()]
    norm = torch.cat([moment.flatten() for moment in moments]).norm().item()
    assert norm == pytest.approx(1e-3 * 0.1, rel=1e-3)  # beta1 0.9: a tenth of the gradient


def test_much_clipping_is_said(store: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"clip_norm": 1e-6, "max_steps": 20, "batch_tokens": 50, "max_epochs": None}
    )
    run = Run(tmp_path, settings)
    run.trainer.place.step, run.trainer.place.clipped = 980, 600
    run.trainer.config = settings.model_copy(
        update={"optimization": settings.optimization.model_copy(update={"max_steps": 1000})}
    )
    run.train(store)
    assert "the gradient was clipped in 620 of the last 1000 updates" in run.said.getvalue()
    assert run.trainer.place.clipped == 0


def test_little_clipping_is_not_said(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"clip_norm": 1e6, "max_steps": 1000}))
    run.trainer.place.step, run.trainer.place.clipped = 980, 400
    run.train(store)
    assert "clipped" not in run.said.getvalue()


def test_one_bad_gradient_changes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, config())
    run.trainer.update([pairs(12)])
    before = run.weights_and_moments()
    with poisoned(run.trainer, lambda step: True):
        update = run.trainer.update([pairs(12)])
    assert math.isnan(update.gradient_norm)
    assert equal(run.weights_and_moments(), before)
    assert all(p.grad is None for p in run.trainer.network.parameters())


def test_a_loss_that_stays_nan_stops_the_run(store: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, save_every_minutes=1e-9)
    run = Run(tmp_path, settings)
    kept: dict[int, list[Tensor]] = {}
    original = run.trainer.save

    def save() -> None:
        original()
        kept[run.trainer.place.step] = run.weights()

    run.trainer.save = save  # type: ignore[method-assign]
    with (
        poisoned(run.trainer, lambda step: step >= 9),
        pytest.raises(DivergenceError, match="not a number at step 11") as caught,
    ):
        run.train(store)
    assert "optimization.learning_rate (now 0.02)" in str(caught.value)
    place = load_run_state_place(tmp_path / "states" / "last.safetensors")
    assert place.step == 8
    weights = run.saved("last.safetensors")
    assert equal(weights, kept[8])
    assert all(weight.isfinite().all() for weight in weights)


def test_weights_that_exploded_are_not_saved(tmp_path: Path) -> None:
    run = Run(tmp_path, config())
    run.trainer.save()
    with torch.no_grad():
        run.trainer.network.output.bias[3] = math.inf
    run.trainer.place.step = 5
    with pytest.raises(DivergenceError, match="not a number at step 5"):
        run.trainer.save()
    assert load_run_state_place(tmp_path / "states" / "last.safetensors").step == 0


def test_a_dev_loss_that_is_no_number_stops_the_run(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(validation={"every_steps": 3}, save_every_minutes=1e-9))
    run.validate = lambda: DevScores(math.inf, 0.0, 0.0, 0.0, "")  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="not a number at step 3"):
        run.train(store)
    assert load_run_state_place(tmp_path / "states" / "last.safetensors").step == 2
    assert not run.kept()


def test_a_stumble_is_no_divergence(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 12}))
    with poisoned(run.trainer, lambda step: step in (3, 4, 6, 7, 9)):
        run.train(store)
    assert run.trainer.place.finished == "all 12 steps are done"
    assert all(weight.isfinite().all() for weight in run.weights())


def test_the_log_has_no_number_that_is_none(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 40, "max_epochs": 9}))
    with poisoned(run.trainer, lambda step: step in (20, 33)):
        run.train(store)
    lines = read_log(tmp_path)
    numbers = [value for line in lines for value in line.values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))
    assert [line["step"] for line in lines if line["kind"] == "training"] == [20, 40]


def test_it_stops_when_dev_does_not_rise(store: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, validation={"every_steps": 2, "patience": 3})
    run = Run(tmp_path, settings)
    run.scores = lambda step: {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0, 10: 2.5}[step]  # equal is no gain
    run.train(store)
    assert run.steps_validated == [2, 4, 6, 8, 10]
    assert run.trainer.place.finished == (
        "dev bleu has not risen for 3 validations (best 3.00 at step 4)"
    )


def test_patience_waits_for_the_first_right_word(store: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_epochs": 50}, validation={"every_steps": 2, "patience": 2})
    run = Run(tmp_path, settings)
    run.scores = lambda step: 1.0 if step == 12 else 0.0
    run.train(store)
    assert run.steps_validated == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize("metric", ["bleu", "chrf", "loss"])
def test_the_metric_decides_what_is_better(metric: str, store: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"max_steps": 4},
        validation={"every_steps": 2, "metric": metric, "keep_best": 1},
    )
    run = Run(tmp_path, settings)
    found = {
        2: DevScores(nll=1.0, bleu=9.0, chrf=1.0, seconds=0.0, example=""),
        4: DevScores(nll=2.0, bleu=3.0, chrf=4.0, seconds=0.0, example=""),
    }
    run.validate = lambda: found[run.trainer.place.step]  # type: ignore[method-assign]
    run.train(store)
    (best,) = run.trainer.place.best
    right = {"bleu": (2, 9.0), "chrf": (4, 4.0), "loss": (2, -1.0)}  # less loss is better
    assert (best.step, best.score) == right[metric]


def test_the_best_states_are_kept(store: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"max_steps": 6, "max_epochs": 9},
        validation={"every_steps": 1, "keep_best": 3},
    )
    run = Run(tmp_path, settings)
    run.scores = lambda step: {1: 5.0, 2: 1.0, 3: 4.0, 4: 0.5, 5: 6.0, 6: 4.0}[step]
    run.train(store)
    assert [(best.step, best.score) for best in run.trainer.place.best] == [
        (5, 6.0),
        (1, 5.0),
        (3, 4.0),  # of equals the earlier one stays
    ]
    assert run.kept() == [f"best-0000000{step}.safetensors" for step in (1, 3, 5)]
    assert load_run_state_place(tmp_path / "states" / "last.safetensors") == run.trainer.place


def test_a_plateau_cuts_the_rate(store: TokenStore, tmp_path: Path) -> None:
    optimization = {
        "schedule": "plateau",
        "warmup_steps": 0,
        "plateau_factor": 0.1,
        "plateau_patience": 1,
        "max_steps": 60,
        "max_epochs": 50,
    }
    run = Run(tmp_path, config(optimization=optimization, validation={"every_steps": 10}))
    rises = {10: 1.0, 20: 0.0, 30: 0.0, 40: 2.0, 50: 0.0, 60: 0.0}  # cut after 30 and after 60
    run.scores = lambda step: rises[step]
    run.train(store)
    assert run.trainer.place.plateau_cuts == 2
    lines = [line for line in read_log(tmp_path) if line["kind"] == "training"]
    found = {line["step"]: line["learning_rate"] for line in lines}
    assert found == {20: pytest.approx(0.02), 40: pytest.approx(0.002), 60: pytest.approx(0.002)}


def test_averaged_weights_are_judged_and_kept(store: TokenStore, tmp_path: Path) -> None:
    settings = config(optimization={"max_steps": 5, "ema_decay": 0.9})
    run = Run(tmp_path, settings)
    assert run.trainer.averages is not None
    seen: list[list[Tensor]] = []
    original = run.validate

    def validate() -> DevScores:
        seen.append(run.weights())
        return original()

    run.validate = validate  # type: ignore[method-assign]
    run.train(store)
    (best,) = run.trainer.place.best
    kept, last = run.saved(best.file), run.saved("last.safetensors")
    assert equal(seen[0], run.trainer.averages.averages)
    assert equal(kept, run.trainer.averages.averages)
    assert equal(last, run.weights())
    assert not equal(kept, last)


def test_a_failing_validation_gives_the_weights_back(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 5, "ema_decay": 0.9}))
    weights: list[list[Tensor]] = []

    def interrupt() -> DevScores:
        run.trainer.averages.swap()  # type: ignore[union-attr]
        weights.append(run.weights())
        run.trainer.averages.swap()  # type: ignore[union-attr]
        raise KeyboardInterrupt

    run.validate = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.train(store)
    assert equal(run.weights(), weights[0])


def test_without_a_plan_dev_is_judged_every_epoch(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 3}))
    run.train(store)
    per_epoch = run.trainer.place.step // 3
    assert run.steps_validated == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    assert run.trainer.place.finished == "all 3 epochs are done"
    assert run.trainer.place.epoch == 3


def test_the_last_weights_are_always_judged(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(validation={"every_steps": 1000}))
    run.train(store)
    assert run.steps_validated == [run.trainer.place.step]
    assert len(run.trainer.place.best) == 1


def test_a_limit_below_what_was_done_ends_the_run(store: TokenStore, tmp_path: Path) -> None:
    for name, place in (("steps", {"step": 50}), ("epochs", {"epoch": 7})):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, config(optimization={"max_steps": 30, "max_epochs": 3}))
        for key, value in place.items():
            setattr(run.trainer.place, key, value)
        run.train(store)
        assert run.trainer.place.finished
        assert len(run.steps_validated) == 1


def test_a_stop_is_heeded_after_the_update(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 50}))
    original = run.trainer.update

    def update(batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        if run.trainer.place.step == 6:
            run.stop.set()
        return original(batches, target_tokens)

    run.trainer.update = update  # type: ignore[method-assign]
    run.train(store)
    place = load_run_state_place(tmp_path / "states" / "last.safetensors")
    assert place.step == run.trainer.place.step == 7
    assert not place.finished


def test_a_stop_during_validation_keeps_its_result(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_epochs": 50}, validation={"every_steps": 5}))
    original = run.validate

    def validate() -> DevScores:
        run.stop.set()
        return original()

    run.validate = validate  # type: ignore[method-assign]
    run.train(store)
    place = load_run_state_place(tmp_path / "states" / "last.safetensors")
    assert (place.step, len(place.best), place.finished) == (5, 1, "")


def test_a_stop_before_the_first_update_leaves_a_state(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config())
    run.stop.set()
    run.train(store)
    again = Run(tmp_path, config(), seed=7)
    again.trainer.resume()
    assert again.trainer.place.step == 0
    assert equal(again.weights(), run.weights())


def test_speed_leaves_validation_out(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(
        tmp_path,
        config(optimization={"max_steps": 40, "max_epochs": 9}, validation={"every_steps": 30}),
    )
    clock = [0.0]
    # The loop's own clock: event loops of other tests' servers go by the machine's.
    monkeypatch.setattr("training.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    original, tokens = run.trainer.update, []

    def update(batches: Sequence[PairBatch], target_tokens: int | None = None) -> Update:
        clock[0] += 1  # a second an update
        found = original(batches, target_tokens)
        tokens.append(found.target_tokens)
        return found

    def validate() -> DevScores:
        clock[0] += 100
        return DevScores(nll=1.0, bleu=1.0, chrf=0.0, seconds=100.0, example="")

    run.trainer.update = update  # type: ignore[method-assign]
    run.validate = validate  # type: ignore[method-assign]
    run.train(store)
    lines = [line for line in read_log(tmp_path) if line["kind"] == "training"]
    found = [line["tokens_per_s"] for line in lines]
    assert found == pytest.approx([sum(tokens[:20]) / 20, sum(tokens[20:]) / 20])
    assert run.trainer.place.seconds == pytest.approx(40 + 2 * 100)


def test_bf16_learns_as_well(store: TokenStore, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        (tmp_path / precision).mkdir()
        settings = config(optimization={"precision": precision, "max_steps": 40, "max_epochs": 9})
        run = Run(tmp_path / precision, settings)
        run.train(store)
        losses[precision] = read_log(tmp_path / precision)[-2]["loss"]
        assert all(weight.dtype == torch.float32 for weight in run.weights())
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)


def test_the_log_is_json_lines_and_the_curves_are_a_picture(
    store: TokenStore, tmp_path: Path
) -> None:
    folder = tmp_path / r"run $\broken{"  # no formula
    folder.mkdir()
    run = Run(folder, config(optimization={"max_steps": 40, "max_epochs": 9}))
    run.train(store)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().split("\n")[:-1]]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("validation", 15),  # the end of an epoch
        ("training", 20),
        ("validation", 30),
        ("training", 40),
        ("validation", 40),
    ]
    picture = draw_curves(folder)
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_what_is_said_to_a_pipe_is_plain_lines(store: TokenStore, tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"max_steps": 40, "max_epochs": 9}))
    run.train(store)
    said = run.said.getvalue()
    assert said.endswith("\n")
    assert all(character.isprintable() or character == "\n" for character in said)
    assert "step 30  epoch 2  dev: nll 1.000  bleu 30.000" in said
