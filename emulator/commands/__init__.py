"""One file a command: `register` adds its options; heavy imports stay inside functions."""
