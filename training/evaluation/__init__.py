"""Scores translations: BLEU, chrF and TER with sacreBLEU signatures."""
