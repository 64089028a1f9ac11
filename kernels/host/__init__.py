"""What the kernels run on: vectors, threads, the cache of machine code."""
