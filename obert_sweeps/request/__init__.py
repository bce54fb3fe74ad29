"""What the user asks for: the command line, read strictly, and the cells it selects."""
