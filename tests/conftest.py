import ctypes
import gc
import os
from functools import cache
from pathlib import Path

# OpenBLAS threads spin while they wait, and on a busy machine that makes small decompositions twenty times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most of the tests' time is spent on compiling small programs that run once: generate their code quickly, not well.
# XLA reads this once a process and subprocesses inherit it; `XLA_FLAGS= make test` compiles as users' programs are.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

# Commands keep compiled programs in a person's home; a test that wants that says where.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jax
import numpy as np
import pytest
from jax._src.interpreters import mlir

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# JAX makes a context for every program that it compiles, a fifth of the time of the small ones; one will do.
mlir.make_ir_context = cache(mlir.make_ir_context)

collect_ignore = ["rows_program.py", "spread_program.py"]
"""Run in processes of their own."""

MOST_BYTES = 3 << 30
"""Of a process that runs tests: then it forgets the programs that it has compiled, which are most of it."""


def pytest_collection_finish():
    """Tracing makes objects by the million, and none of what was imported goes: a tenth of the time was collecting."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    yield
    statistics = Path("/proc/self/statm")
    if statistics.exists() and int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MOST_BYTES:
        jax.clear_caches()
        mlir.make_ir_context.cache_clear()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed
        if trim is not None:
            trim(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def standard_promotion():
    """JAX's own promotion rules, which commands are run with by people."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def standard_promotion_everywhere():
    """JAX's own promotion rules in every thread, for what calls optax; the context managers hold in one thread only."""
    former = {name: getattr(jax.config, name) for name in ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")}
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    for name, value in former.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def small_network():
    """Commands know a network small enough for tests as "small"."""
    from cimm_jax.networks import NETWORKS

    NETWORKS["small"] = "networks.small_networks:NETWORK"
    yield
    del NETWORKS["small"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Weights for the small network, and folders of images of a primary and a harmful task."""
    from small_images import write_inputs

    return write_inputs(tmp_path_factory.mktemp("inputs"))
