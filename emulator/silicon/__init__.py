"""What a chip is made of: the description (`spec`, `hc1.toml`) and the cost of an operation."""
