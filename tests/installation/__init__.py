"""What is built and installed, and what the front of the command line says."""
