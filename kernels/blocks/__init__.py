"""The kernel of each block, in the file of the block's name. Twins in `kernels.reference`."""
