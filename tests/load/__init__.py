"""Load tests of the service, run by hand: `python -m tests.load --help` lists them."""
