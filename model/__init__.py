"""From text to text: network, tokenizer, search and engine. Knows nothing of HTTP or training."""
