"""From a checkpoint to a ROM image: read, fold, rotate, quantise, pack, write."""
