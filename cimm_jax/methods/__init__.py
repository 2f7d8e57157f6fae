"""Immunization methods on one protocol (`Method`): a function of its settings that returns a method, usable with none."""

from cimm_jax.closed_form.allocation import LargestKappa, SignalAware
from cimm_jax.methods._algorithm1 import algorithm1
from cimm_jax.methods._best_response import best_response
from cimm_jax.methods._encoderlock import encoderlock
from cimm_jax.methods._erase import erase
from cimm_jax.methods._hsic import hsic
from cimm_jax.methods._ill_only import ill_only
from cimm_jax.methods._imma import imma
from cimm_jax.methods._ntl import ntl
from cimm_jax.methods._one_step import one_step
from cimm_jax.methods._opt_kappa import opt_kappa
from cimm_jax.methods._penalised import HessianFrom, default_optimizer
from cimm_jax.methods._pencil import LEARNED_RIDGE, LIGHT_RIDGE, pencil, pencil_no_slower, pencil_signal
from cimm_jax.methods._sophon import sophon
from cimm_jax.methods._sweep import Measured, sweep
from cimm_jax.methods._undo import undo
from cimm_jax.methods.protocol import Info, Method, reused
from cimm_jax.methods.registry import BY_NAME, KNOWN, PRESETS, REMOVING, build_methods, by_name, method_names
from cimm_jax.methods.run import Immunized, immunize

__all__ = [
    "BY_NAME",
    "KNOWN",
    "LEARNED_RIDGE",
    "LIGHT_RIDGE",
    "PRESETS",
    "REMOVING",
    "HessianFrom",
    "Immunized",
    "Info",
    "LargestKappa",
    "Measured",
    "Method",
    "SignalAware",
    "algorithm1",
    "best_response",
    "build_methods",
    "by_name",
    "default_optimizer",
    "encoderlock",
    "erase",
    "hsic",
    "ill_only",
    "imma",
    "immunize",
    "method_names",
    "ntl",
    "one_step",
    "opt_kappa",
    "pencil",
    "pencil_no_slower",
    "pencil_signal",
    "reused",
    "sophon",
    "sweep",
    "undo",
]
