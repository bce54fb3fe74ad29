"""The document as data: its 69 cells, its table layouts, its claims. Nothing heavy is imported."""
