"""`dragoman bench`: speed, latency and memory of one checkpoint on this machine, all measured."""
