"""Numbers and verdicts as people read them, the same in Markdown, in HTML and on the screen."""

from . import cells, inference, neighbours

__all__ = ["cells", "inference", "neighbours"]
