import subprocess
import sys


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, reidkit.clustering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
