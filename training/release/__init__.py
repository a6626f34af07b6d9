"""From a run to a checkpoint: export, model card, shortlist, retraining."""
