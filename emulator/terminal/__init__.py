"""What people are shown on a terminal or in a file: tables, progress bars, pictures."""
