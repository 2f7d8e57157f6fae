"""Settings of devices and processes: what cannot work is refused in one line, before anything is read."""

import jax
import pytest

from cimm_jax import InputError
from cimm_jax.commands.cli import main
from cimm_jax.commands.devices import FORCED, check_float64, mesh_of
from cimm_jax.commands.settings import Sweep
from cimm_jax.commands.several_processes import CLUSTERS, join
from cimm_jax.numerics.spreading import mesh_in_use, spread_over


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        ("rows=8", "needs data=DEVICES, such as data=8, got 'rows=8'"),
        ("data=0", "needs data=DEVICES"),
        ("data=eight", "needs data=DEVICES"),
        ("8", "needs data=DEVICES"),
        ("data=64", f"asks for 64 devices and there is 1; set {FORCED}=64 first"),
    ],
)
@pytest.mark.parametrize("command", ["sweep", "diagnose", "attack", "immunize"])
def test_a_mesh_that_is_not_there_is_refused(command, mesh, said, tmp_path, capsys):
    assert main([command, "--mesh", mesh, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"cimm: --mesh: {said}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"processes": 2}, "coordinator: is needed with --processes"),
        ({"coordinator": "here", "processes": 2, "process_id": 0}, "coordinator: needs HOST:PORT, got 'here'"),
        ({"coordinator": "here:0", "processes": 2, "process_id": 0}, "coordinator: needs HOST:PORT"),
        ({"coordinator": "here:1234", "process_id": 0}, "processes: is needed"),
        ({"coordinator": "here:1234", "processes": 2}, "process_id: is needed"),
        ({"coordinator": "here:1234", "processes": 0, "process_id": 0}, "processes: needs at least 1"),
        (
            {"coordinator": "here:1234", "processes": 2, "process_id": 2},
            "process_id: needs 0 to 1 of 2 processes, got 2",
        ),
        ({"processes": 2, "distributed": True}, "processes: --distributed takes this from the cluster"),
    ],
)
def test_processes_that_cannot_be_are_refused(given, said):
    with pytest.raises(InputError, match=f"^{said}"):
        join(Sweep(**given))


@pytest.mark.parametrize("variable", CLUSTERS)
def test_more_processes_than_the_cluster_started_are_refused(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(InputError, match=r"^processes: .* started 2, got 3"):
        join(Sweep(coordinator="here:1234", processes=3, process_id=0))


def test_devices_without_float64_are_refused():
    check_float64("cpu")
    check_float64("gpu")
    with pytest.raises(InputError, match=r"^JAX_PLATFORMS: METAL has no float64"):
        check_float64("METAL")


def test_a_mesh_holds_within_alone_and_its_axes_are_automatic():
    assert mesh_of(None) is None
    with spread_over(mesh_of("data=1")):
        mesh = mesh_in_use()
        assert mesh is not None
        assert mesh.axis_types == (jax.sharding.AxisType.Auto,)
    assert mesh_in_use() is None
