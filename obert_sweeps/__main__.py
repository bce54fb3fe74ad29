"""`python -m obert_sweeps …` and `obert-sweeps …`."""

from __future__ import annotations

import sys

from .cli.door import main as door


def main() -> None:
    sys.exit(door())


if __name__ == "__main__":
    main()
