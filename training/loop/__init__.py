"""Trains the network: batches, loss, optimizer, validation, run state."""
