import subprocess
import sys

from reidkit import clustering


def test_public_names_are_sorted_and_exist() -> None:
    assert clustering.__all__ == sorted(clustering.__all__)
    assert all(hasattr(clustering, name) for name in clustering.__all__)


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, reidkit.clustering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
