"""Output for people, on a terminal or in a file: tables, progress bars, pictures."""
