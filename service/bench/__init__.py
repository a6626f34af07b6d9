"""`dragoman bench`: measures throughput, latency and memory of a checkpoint on this machine."""
