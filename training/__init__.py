"""Offline: turns parallel text into a checkpoint."""
