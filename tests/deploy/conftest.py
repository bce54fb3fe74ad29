from __future__ import annotations

import pytest
from exported import Exports, export_both


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return export_both(tmp_path_factory.mktemp("exports"))
