"""`python -m worker.engine.install`: set up or repair the runtime."""

import sys

from worker.engine.install.command import main

sys.exit(main())
