"""Writes the model card of a checkpoint: use, scores, data, network and limits."""

import json
from typing import Any

from model.checkpoint import CheckpointConfig


def write_card(name: str, config: CheckpointConfig, metrics: dict[str, Any]) -> str:
    """Returns the README.md of a checkpoint, in Markdown."""
    pair = f"{config.source_language} → {config.target_language}"
    sections = [
        f"# {name}: {pair}\n\nA recurrent translation model made with Dragoman.",
        _use(name, config),
        _scores(metrics),
        _data(metrics),
        _network(config, metrics),
        _limits(config, metrics),
    ]
    return "\n\n".join(sections) + "\n"


def _use(name: str, config: CheckpointConfig) -> str:
    body = json.dumps(
        {"text": "…", "source": config.source_language, "target": config.target_language},
        ensure_ascii=False,
    )
    return (
        "## Use\n\n"
        f"    dragoman translate {name} input.txt -o output.txt\n"
        f"    dragoman serve {name}\n"
        f"    curl http://127.0.0.1:8000/v1/translate -H 'content-type: application/json' "
        f"-d '{body}'"
    )


def _scores(metrics: dict[str, Any]) -> str:
    rows = [
        f"| {split} | {metric} | {metrics[split][key]['score']:.2f} | "
        f"`{_cell(metrics[split][key]['signature'])}` |"
        for split in ("dev", "test")
        if split in metrics
        for metric, key in (("BLEU", "bleu"), ("chrF", "chrf"), ("TER", "ter"))
    ]
    if not rows:
        return "## Scores\n\nNone: the run had no dev or test split."
    search = next(metrics[split]["search"] for split in ("test", "dev") if split in metrics)
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in search.items())
    header = ["| split | metric | score | sacreBLEU signature |", "|---|---|---:|---|"]
    return "\n".join(["## Scores\n", f"With {settings}.\n", *header, *rows])


def _cell(text: str) -> str:
    """Escapes bars, which end a table cell even inside code."""
    return text.replace("|", "\\|")


def _data(metrics: dict[str, Any]) -> str:
    corpus, data = metrics["corpus"], metrics["config"]["data"]
    total = corpus["total"]
    removed = ", ".join(
        f"{count:,} {rule.replace('_', ' ')}" for rule, count in total["removed"].items() if count
    )
    lines = [
        "## Data\n",
        data["description"] or "Not described by the training config.",
        "",
        f"Licence of the text: {data['licence'] or 'not stated in the training config'}.",
        "",
        f"{total['read']:,} pairs read, {total['kept']:,} trained on; "
        f"removed: {removed or 'none'}. Files, with their SHA-256:",
        "",
        *(f"- `{file['name']}` {file['sha256']}" for file in corpus["files"]),
    ]
    return "\n".join(lines)


def _network(config: CheckpointConfig, metrics: dict[str, Any]) -> str:
    model, training = config.model, metrics["training"]
    way = "bidirectional" if model.bidirectional else "one-way"
    return (
        "## Network and training\n\n"
        f"{model.encoder_layers}-layer {way} {model.cell.upper()} encoder ({model.encoder_hidden} "
        f"per direction), {model.decoder_layers}-layer {model.decoder} decoder "
        f"({model.decoder_hidden}), {model.attention} attention, "
        f"{'joint ' if config.tokenizer.joint else ''}{config.tokenizer.kind} vocabulary of "
        f"{model.target_vocab_size:,} pieces.\n\n"
        f"{training['updates']:,} updates on {training['target_tokens']:,} target tokens in "
        f"{training['minutes']} minutes ({training['hardware']}); stopped because: "
        f"{training['finished']}. Seed {metrics['config']['seed']}."
    )


def _limits(config: CheckpointConfig, metrics: dict[str, Any]) -> str:
    return (
        "## Limits\n\n"
        f"Sources longer than {config.max_source_tokens} pieces are split at sentence ends, "
        "clauses or spaces and translated in parts. The model knows the domain of its training "
        "text; elsewhere expect omissions and inventions, and check what matters."
    )
