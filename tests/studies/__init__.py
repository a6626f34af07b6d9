"""Studies that produce figures for the documentation; run by hand, not shipped."""
