"""What a token costs: on a hardwired card, on a GPU that batches, and at list prices."""
