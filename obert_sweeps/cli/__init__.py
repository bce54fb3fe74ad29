"""The command line: the door, its manual, and what the verbs share. A verb is a file of `verb/`."""
