"""The demo: a translator trained in minutes on the built-in corpus."""

from pathlib import Path

from rich.console import Console

from model.checkpoint import load_checkpoint, read_description
from model.errors import CheckpointError
from model.translator import Translator
from training.config import load_config
from training.demo.corpus import write_corpus
from training.release.export import export
from training.run.folder import RunFolder
from training.run.pipeline import train

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.toml"
SHOWN = (
    "Is there a restaurant next to the supermarket?",
    "When does the train from Zurich arrive on Sunday?",
    "We would like four kilos of sugar and a cup of tea, please.",
)


def run_demo(folder: Path, console: Console | None = None) -> Path:
    """Trains in `folder` unless that was done before; the models folder to serve.

    A demo that was interrupted goes on where it stopped.
    """
    console = console or Console(stderr=True)
    models, run, corpus = folder / "models", folder / "run", folder / "corpus"
    checkpoint = models / "demo"
    try:
        read_description(checkpoint)
    except CheckpointError:  # not there yet, or not whole
        write_corpus(corpus)
        config = load_config(RECIPE, data=corpus)
        train(config, run, resume=RunFolder(run).started, console=console)
        export(run, checkpoint, console=console)
    _show(checkpoint, console)
    return models


def _show(checkpoint: Path, console: Console) -> None:
    loaded = load_checkpoint(checkpoint)
    test = loaded.metrics["test"]
    translations = Translator(loaded).translate(SHOWN)
    lines = [
        f"held-out combinations: BLEU {test['bleu']['score']:.1f}, "
        f"exact match {test['exact_match']:.1f} %  ({test['bleu']['signature']})",
        *(f"  {text}\n    {t.text}" for text, t in zip(SHOWN, translations, strict=True)),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
