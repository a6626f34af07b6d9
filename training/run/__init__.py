"""Runs a training: config, folder, pipeline, dry run, curves."""
