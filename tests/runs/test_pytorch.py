"""Protected weights in PyTorch (extra `bench`), loaded as docs/take_home.md says: outputs are those of the original."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import prescribed
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax.networks import by_name
from cimm_jax.networks.head import head_of
from cimm_jax.networks.weight_files import weights_checksum
from cimm_jax.networks.weights import export_weights, load_weights
from cimm_jax.runs.published import Published
from cimm_jax.runs.published_file import write_published
from cimm_jax.runs.source import NetworkSource
from cimm_jax.views.loading import SNIPPET

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import pad, relu  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TOLERANCE = 1e-4


class Block(nn.Module):
    """Of He et al. (2015), section 4.2, with shortcuts without parameters."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.stride, self.side = 2 if outputs > inputs else 1, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.side, self.side)))


class CifarResNet(nn.Module):
    def __init__(self, blocks, widths, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = (widths[0], *widths)
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            layers = [Block(width if block else before[stage], width) for block in range(count)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def load_immunized(model, path):
    """The function that the document prints."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/take_home.md").read_text(), flags=re.DOTALL)
    exec(compile(program, "docs/take_home.md", "exec"), names := {})
    return names["load_immunized"](model, str(path))


def outputs(config, path, x):
    """Of a file's weights, by PyTorch, for images of NHWC."""
    model = load_immunized(CifarResNet(config.blocks, config.widths, config.classes), path)
    with torch.no_grad():
        return model(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).numpy()


def published(folder, network, base, theta=None):
    """A network's file, behind a map if there is one."""
    head = head_of(network)
    subject = SimpleNamespace(
        source=NetworkSource("resnet", base, "kept", "blocked"),
        features=len(head.kernel),
        network_data=SimpleNamespace(weights_sha256=weights_checksum(base)),
    )
    made, by = Published(network, None, head), SimpleNamespace(name="b", trained_from="stem")
    if theta is not None:
        made = Published(network, theta.astype(np.float32), head.absorbed(theta))
        by = SimpleNamespace(name="m", trained_from=None)
    (name,) = write_published(folder, made, subject, by)
    return folder / name


def test_a_protected_network_gives_what_the_original_gives_and_without_the_map_does_not(rng, tmp_path):
    network = filled(NETWORK)
    original = published(tmp_path, network, export_weights(network, tmp_path / "base.safetensors"))
    x = rng.normal(size=(4, 16, 16, 3)).astype(np.float32)
    before = outputs(NETWORK, original, x)
    np.testing.assert_allclose(before, network(x), rtol=TOLERANCE, atol=TOLERANCE)
    theta = prescribed.matrix(rng, prescribed.geometric(1e3, NETWORK.widths[-1]))
    (tmp_path / "map").mkdir()
    protected = published(tmp_path / "map", network, original, theta)
    after = outputs(NETWORK, protected, x)
    assert np.linalg.norm(after - before) < TOLERANCE * np.linalg.norm(before)
    model = CifarResNet(NETWORK.blocks, NETWORK.widths, NETWORK.classes)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"immunization\.weight\""):
        model.load_state_dict(load_file(protected))


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_resnet20_behind_a_map_as_ill_conditioned_as_the_closed_form_s(rng, tmp_path):
    config, base = by_name("resnet20_cifar10"), DATA / "weights/resnet20_cifar10.safetensors"
    network = load_weights(config, base)
    with np.load(DATA / "cifar10/cifar10_subset.npz") as data:
        x, labels = network.config.preprocess(data["x_test"][:64]), data["y_test"][:64]
    original = outputs(config, published(tmp_path, network, base), x)
    (tmp_path / "map").mkdir()
    theta = prescribed.matrix(rng, prescribed.geometric(1e3, config.widths[-1]))
    protected = outputs(config, published(tmp_path / "map", network, base, theta), x)
    assert np.mean(original.argmax(1) == labels) > 0.8
    change = np.linalg.norm(protected - original, axis=1) / np.linalg.norm(original, axis=1)
    assert change.max() < TOLERANCE


def test_the_document_prints_what_model_cards_print():
    assert SNIPPET in (ROOT / "docs/take_home.md").read_text()
    assert len(SNIPPET.splitlines()) <= 18
