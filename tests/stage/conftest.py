from __future__ import annotations

from pathlib import Path

import pytest
from deploy_chain import make_chain


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with deploy_chain's stages."""
    store = tmp_path_factory.mktemp("chain")
    make_chain(store)
    return store
