"""From text to tokens and back: tokenizer, chat format, generation, terminal."""
