"""The report as files and on the screen."""
