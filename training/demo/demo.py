"""`dragoman demo`: trains a small translator on the demo corpus in a few minutes."""

from pathlib import Path

from rich.console import Console

from model.checkpoint import load_checkpoint, read_description
from model.errors import CheckpointError
from model.translator import Translator
from training.demo.corpus import write_corpus
from training.recipe_file import load_config
from training.release.export import export
from training.run.folder import RunFolder
from training.run.pipeline import train

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.toml"
EXAMPLES = (
    "Is there a restaurant next to the supermarket?",
    "When does the train from Zurich arrive on Sunday?",
    "We would like four kilos of sugar and a cup of tea, please.",
)


def run_demo(folder: Path, console: Console | None = None) -> Path:
    """Trains in `folder` unless a checkpoint is there, and returns the models folder to serve.

    An interrupted training resumes.
    """
    console = console or Console(stderr=True)
    models, run, corpus = folder / "models", folder / "run", folder / "corpus"
    checkpoint = models / "demo"
    try:
        read_description(checkpoint)
    except CheckpointError:  # missing or incomplete
        write_corpus(corpus)
        config = load_config(RECIPE, data=corpus)
        train(config, run, resume=RunFolder(run).started, console=console)
        export(run, checkpoint, console=console)
    _print_results(checkpoint, console)
    return models


def _print_results(checkpoint: Path, console: Console) -> None:
    loaded = load_checkpoint(checkpoint)
    test = loaded.metrics["test"]
    translations = Translator(loaded).translate(EXAMPLES)
    lines = [
        f"held-out combinations: BLEU {test['bleu']['score']:.1f}, "
        f"exact match {test['exact_match']:.1f} %  ({test['bleu']['signature']})",
        *(f"  {text}\n    {t.text}" for text, t in zip(EXAMPLES, translations, strict=True)),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
