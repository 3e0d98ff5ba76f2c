"""`python -m denoised.cli`, which is `denoised`."""

import sys

from denoised.cli import main

sys.exit(main())
