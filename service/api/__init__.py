"""The APIs of other services, spoken by ours: one thin module each, all on the same service."""
