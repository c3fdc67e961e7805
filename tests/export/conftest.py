from pathlib import Path

import pytest

from reidkit.backbones import EmbeddingModel
from tests.export.models import save


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a folder go to one of their own; no cached data set is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EmbeddingModel]:
    return save(tmp_path_factory.mktemp("runs") / "usl-people")
