"""Trained blocks of a network as a defence."""

from pathlib import Path

from cimm_jax.attacks import Target
from cimm_jax.closed_form.heads import PrimaryKept, primary_kept
from cimm_jax.errors import InputError, naming
from cimm_jax.measures.extraction import Extraction
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import DeepFeatures
from cimm_jax.networks.head import head_of, read_head, with_head
from cimm_jax.networks.tails import features_behind
from cimm_jax.networks.weights import load_weights
from cimm_jax.numerics import losses
from cimm_jax.runs.network_subject import NetworkSubject, attacked_task, pairs_of
from cimm_jax.runs.published import Published
from cimm_jax.runs.published_file import HEAD_FILE, MODEL_FILE, write_published
from cimm_jax.runs.subject import Subject
from cimm_jax.tasks import SplitTask

__all__ = ["TrainedDefence"]


class TrainedDefence:
    """A network whose blocks from a cut on were trained; its features are computed from the published activations there.

    Args:
      name: of the method, or of the folder it was read from.
      network: with its new blocks and head.
      trained_from: the first of them.
    """

    def __init__(self, name: str, network: Backbone, trained_from: str):
        self.name, self.network, self.trained_from = name, network, trained_from

    @classmethod
    def read(cls, name: str, folder: Path, subject: NetworkSubject, trained_from: str) -> "TrainedDefence":
        """The network in a run folder; raises `InputError` as `load_weights` and `read_head`."""
        config = subject.network.config
        with naming("runs", "weights"):
            network = load_weights(config, folder / MODEL_FILE)
            if not config.classes:
                network = with_head(network, read_head(folder / HEAD_FILE, subject.features))
            return cls(name, network, trained_from)

    def check(self, subject: Subject) -> None:
        """Raises `InputError` unless the subject is a network that is cut where the blocks were trained from."""
        cut = _network(subject).cut
        if cut != self.trained_from:
            raise InputError(
                f"runs: {self.name} was trained from {self.trained_from}, others from {cut}; attack them apart"
            )

    def extractions(self, subject: Subject) -> dict[str, Extraction]:
        """Features of the published network and of this one."""
        after = pairs_of(self._features(subject))
        return {part: Extraction(before, after[part]) for part, before in subject.pairs().items()}

    def target(self, subject: Subject, task: str, undefended: SplitTask, loss: losses.Loss) -> Target:
        """Features of this network; there is no map to undo."""
        del undefended
        return Target(*attacked_task(getattr(self._features(subject), task), loss))

    def kept(self, subject: Subject) -> dict[str, PrimaryKept]:
        """The published head on published features against this network's on its own."""
        of = _network(subject)
        before, after = (of.plain_primary(features) for features in (of.published, self._features(subject)))
        head = head_of(self.network)
        return {
            part: primary_kept(of.head.logits(plain.x), head.logits(after[part].x), plain.labels)
            for part, plain in before.items()
        }

    def published(self, subject: Subject) -> Published:
        """This network and its head."""
        del subject
        return Published(self.network, None, head_of(self.network))

    def write(self, folder: Path, subject: Subject) -> tuple[str, ...]:
        """All weights, under the publisher's names; a head that these have no names for is a file of its own."""
        return write_published(folder, self.published(subject), _network(subject), self)

    def _features(self, subject: Subject) -> DeepFeatures:
        if self._computed is None:
            parts = functional.split(self.network, self.trained_from)
            self._computed = DeepFeatures(**features_behind(parts, _network(subject).activations, self.trained_from))
        return self._computed

    _computed: DeepFeatures | None = None


def _network(subject: Subject) -> NetworkSubject:
    """The subject, which only a network can be."""
    if not isinstance(subject, NetworkSubject):
        raise InputError(f"runs: {subject.title} is no network, and has no blocks; give runs of one subject")
    return subject
