"""How protected weights are loaded in PyTorch: a section of the model card, and of docs/take_home.md."""

__all__ = ["BEFORE_EXTRACTOR", "SNIPPET", "extractor_loading", "features_loading", "network_loading"]

BEFORE_EXTRACTOR = (
    "Whoever reads the features that go into the extractor leaves it out, and is stopped by nothing: it protects where these "
    "stay with their owner and only what the extractor gives is published, as by an interface or a vendor of embeddings."
)
"""What an extractor behind features is worth, and where."""

SNIPPET = '''\
import torch
from safetensors import safe_open


def load_immunized(model: torch.nn.Module, path: str) -> torch.nn.Module:
    """Loads protected weights into the publisher's network; the map goes in front of its head."""
    with safe_open(path, "pt") as file:
        head, weights = file.metadata()["cimm_jax.head"], {key: file.get_tensor(key) for key in file.keys()}
    theta = weights.pop("immunization.weight", None)  # trained blocks have none
    model.load_state_dict(weights)
    if theta is not None:
        layer = torch.nn.utils.skip_init(torch.nn.Linear, *theta.shape[::-1], bias=False)
        layer.load_state_dict({"weight": theta})
        model.set_submodule(head, torch.nn.Sequential(layer, model.get_submodule(head)))
    return model.eval()
'''
"""Fifteen lines, for any network whose `state_dict` has the publisher's names."""


def network_loading(head: str, *, has_map: bool) -> str:
    """Of a network, in Markdown.

    Args:
      head: what the publisher calls the head; empty if it has none.
      has_map: whether there is a map before it.
    """
    if not head:
        behind = ", and behind its features `immunization.weight`, as `features @ weight.T`" if has_map else ""
        return _section(
            f"The weights have their publisher's names and go where the publisher's go{behind}. The publisher has no head; one "
            "that was fitted to the kept task lies in the run folder, in head.safetensors.",
            "",
        )
    if not has_map:
        return _section("The weights have their publisher's names and go where the publisher's go.", "")
    return _section(
        f"The weights have their publisher's names and one more, `immunization.weight`, a linear layer in front of the head "
        f"`{head}`, which has absorbed it: without the layer the outputs are wrong. `model` is the publisher's network, and "
        '`path` is "model.safetensors".',
        SNIPPET,
    )


def features_loading(head: str) -> str:
    """Of a map behind somebody's own features, in Markdown.

    Args:
      head: what the head in the file is called; empty if there is none.
    """
    lines = [
        "from safetensors.torch import load_file",
        "",
        'weights = load_file("model.safetensors")',
        'protected = features @ weights["immunization.weight"].T',
    ]
    if head:
        lines.append(
            f'outputs = torch.nn.functional.linear(protected, weights["{head}.weight"], weights.get("{head}.bias"))'
        )
    absorbed = "The head in the file has absorbed the map." if head else "Heads are fitted on protected features."
    return _section(
        f"The file has a linear map, which goes behind your features. {absorbed}",
        "\n".join(["import torch", *lines, ""]),
    )


def extractor_loading() -> str:
    """Of an extractor behind somebody's own features, in Markdown."""
    lines = [
        "import torch",
        "from safetensors.torch import load_file",
        "",
        'weights, linear = load_file("model.safetensors"), torch.nn.functional.linear',
        'protected = (features - weights["input.mean"]) / weights["input.deviation"]',
        'for block in sorted({key.rsplit(".", 2)[0] for key in weights if key.startswith("blocks.")}):',
        "    first, second = (",
        '        (weights[f"{block}.{layer}.weight"], weights[f"{block}.{layer}.bias"]) for layer in ("first", "second")',
        "    )",
        "    protected = protected + linear(torch.relu(linear(protected, *first)), *second)",
        'outputs = linear(protected, weights["head.weight"], weights["head.bias"])',
        "",
    ]
    return _section(
        "The file has an extractor, which goes behind your features (float32), and its head of the kept task. "
        f"{BEFORE_EXTRACTOR}",
        "\n".join(lines),
    )


def _section(text: str, code: str) -> str:
    return "\n\n".join(["## How to load it in PyTorch", text, *([f"```python\n{code}```"] if code else [])])
