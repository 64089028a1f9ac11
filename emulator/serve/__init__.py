"""The appliance on a desk: one chip behind HTTP, as OpenAI's clients and the vendor's know it."""
