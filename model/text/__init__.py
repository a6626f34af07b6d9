"""Text to token ids and back: sentences, SentencePiece."""
