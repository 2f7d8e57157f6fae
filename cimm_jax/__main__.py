"""`python -m cimm_jax` is `cimm`."""

import sys

from cimm_jax.cli import main

sys.exit(main())
