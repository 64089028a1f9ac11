"""Reports about a chip's time, added up from what its blocks say."""
