"""What a network's features are made from, for records."""

from dataclasses import dataclass, field

__all__ = ["NAMED_FILES", "ImagePart", "NetworkData"]

NAMED_FILES = 5
"""Of the files that could not be decoded, so many are named."""


@dataclass(frozen=True)
class ImagePart:
    """One part of a data set of images, or of texts.

    Attributes:
      images: how many rows there are, views included.
      classes: how many classes they are of.
      sha256: of the images.
      skipped: how many files could not be decoded.
      views: of each image.
      skipped_files: the first of those that could not be decoded, each as "name: reason".
      cut_texts: of texts, how many were longer than the network takes; None for images.
    """

    images: int
    classes: int
    sha256: str
    skipped: int
    views: int
    skipped_files: tuple[str, ...]
    cut_texts: int | None = None


@dataclass(frozen=True)
class NetworkData:
    """Weights and images.

    Attributes:
      weights_sha256: checksum of the published weights' file.
      features: how many features the network has.
      primary: the primary images by part.
      harmful: the harmful images by part.
      definition_sha256: checksum of the files that say what the network is; None if its name and the package's version do.
      head_is_fitted: whether the network has no head, and one was fitted to the primary training images.
      harmful_too: images of further harmful tasks by part, by the tasks' names: "harmful 2" and so on.
      of_rows: whether the network is an extractor behind somebody's own features, whose "images" are rows of these.
    """

    weights_sha256: str
    features: int
    primary: dict[str, ImagePart]
    harmful: dict[str, ImagePart]
    definition_sha256: str | None = None
    head_is_fitted: bool = False
    harmful_too: dict[str, dict[str, ImagePart]] = field(default_factory=dict)
    of_rows: bool = False

    @property
    def of_texts(self) -> bool:
        """Whether the network takes texts."""
        return self.primary["train"].cut_texts is not None

    @property
    def inputs(self) -> str:
        """What the network takes, as people call it."""
        return "rows" if self.of_rows else "texts" if self.of_texts else "images"

    @property
    def tasks(self) -> dict[str, dict[str, ImagePart]]:
        """Images by part and by task: "primary", "harmful", and further harmful ones."""
        return {"primary": self.primary, "harmful": self.harmful, **self.harmful_too}

    def checksums(self) -> dict[str, str]:
        """Of the weights, the files that say what the network is, and every part of the images."""
        images = {f"{task}.{part}": found.sha256 for task, of in self.tasks.items() for part, found in of.items()}
        files = {} if self.definition_sha256 is None else {"network": self.definition_sha256}
        return {"weights": self.weights_sha256, **files, **images}
