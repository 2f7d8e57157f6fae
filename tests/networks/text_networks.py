"""A sentence encoder small enough for tests, and sentences."""

from cimm_jax.networks.bert import BertConfig
from cimm_jax.networks.tokens import Tokens
from cimm_jax.networks.transformer import BlockSettings

BERT = BertConfig(
    positions=24,
    depth=2,
    block=BlockSettings(width=16, heads=2, hidden=24, epsilon=1e-3),
    preprocess=Tokens(length=20, vocabulary=40),
)
"""In the sizes of golden/text/bert.safetensors."""

SENTENCES = (
    "The cat sat on the mat.",
    "Goalkeepers rarely score; this one did, in the 94th minute!",
    "Ångström's naïve café — 東京",
    "pump",
    " ".join(f"word{number}" for number in range(300)),
)
"""One of each kind: plain, with numbers, with accents and ideographs, a single word, longer than the encoder takes."""
