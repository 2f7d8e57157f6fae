"""What importing the package brings along, and what it does not."""

import importlib
import subprocess
import sys
from importlib import metadata

import pytest

import cimm_jax

PACKAGES = ("attacks", "data", "methods", "networks")
"""Those that are used by people, and so export what their files hold."""


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


@pytest.mark.parametrize("package", ["cimm_jax", *(f"cimm_jax.{name}" for name in PACKAGES)])
def test_public_names_are_there_and_only_once(package):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_what_the_house_holds_is_reached_from_its_door():
    """The names that the documents use, and that nothing else is needed for."""
    for name in ("immunize", "diagnose", "extract", "judge", "definition_3_1", "relative_immunization_ratio", "absorb"):
        assert callable(getattr(cimm_jax, name))
    assert cimm_jax.immunize is cimm_jax.methods.immunize
    assert cimm_jax.losses.squared is importlib.import_module("cimm_jax.numerics.losses").squared


def test_the_version_is_that_of_the_package():
    assert cimm_jax.__version__ == metadata.version("cimm_jax")


def test_python_m_cimm_jax_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "cimm_jax", "--help"], capture_output=True, text=True, check=True)
    assert "immunize" in shown.stdout
