"""What is decided as a request comes in: the design of experiments, and who is in which arm."""
