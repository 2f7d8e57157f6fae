"""`python -m cimm_jax` is `cimm`."""

import sys

from cimm_jax.commands.cli import main

sys.exit(main())
