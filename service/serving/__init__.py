"""Models at work: queues, workers, reload, cache."""
