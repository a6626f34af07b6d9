"""BLEU, chrF and TER with signatures."""
