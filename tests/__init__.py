"""Tests run tuned as the commands do: waiting threads sleep, freed memory is used again."""

from model.system.process import tune_process

tune_process()  # before torch is imported
