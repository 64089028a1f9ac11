"""Bodies of requests and replies, declared once: they are checked by, and described from, these."""
