"""Draws the curves of a run: loss and dev scores."""

from pathlib import Path
from typing import Any

from model.system.atomic_files import replaced_file
from training.loop.journal import read_log

PICTURE = "curves.png"


def draw_curves(run: Path) -> Path | None:
    """Draws loss and dev scores into curves.png; returns None if there is nothing to draw."""
    # Figure and Agg directly: pyplot would look for a window system and keep global state.
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:  # the `training` extra is not installed; log.jsonl has the numbers
        return None

    lines = read_log(run)
    training = [line for line in lines if line["kind"] == "training"]
    validation = [line for line in lines if line["kind"] == "validation"]
    if not lines:
        return None
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(2, 1, sharex=True)
    losses.plot(*_series(training, "loss"), label="train, smoothed", color="tab:blue", alpha=0.6)
    losses.plot(*_series(training, "nll"), label="train", color="tab:blue")
    losses.plot(*_series(validation, "nll"), label="dev", color="tab:orange", marker=".")
    losses.set_ylabel("nats per target token")
    losses.legend()
    losses.grid(alpha=0.3)
    for name, color in (("bleu", "tab:green"), ("chrf", "tab:red")):
        steps, values = _series(validation, name)
        if steps:
            scores.plot(steps, values, label=f"dev {name}", color=color, marker=".")
    scores.set_ylabel("greedy score on dev")
    scores.set_xlabel("updates")
    if scores.lines:
        scores.legend(loc="lower right")
    scores.grid(alpha=0.3)
    losses.set_title(run.name, parse_math=False)
    with replaced_file(run / PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return run / PICTURE


def _series(lines: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in points], [value for _, value in points]
