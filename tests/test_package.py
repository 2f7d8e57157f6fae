"""What importing the package brings along, and what it does not."""

import subprocess
import sys

import cimm_jax


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_import_leaves_heavy_libraries_alone():
    loaded = run(
        "import sys, cimm_jax;"
        "heavy = 'flax tensorflow tensorflow_datasets matplotlib sklearn pandas orbax tyro rich torch'.split();"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    assert loaded == ""


def test_import_changes_no_global_setting():
    settings = "(jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)"
    assert run(f"import jax; before = {settings}; import cimm_jax; print(before == {settings})") == "True"


def test_public_names_are_there():
    missing = [name for name in cimm_jax.__all__ if not hasattr(cimm_jax, name)]
    assert not missing
