"""One chip behind HTTP, with the interfaces that OpenAI's clients and the vendor's expect."""
