"""Jobs: reading them, running their stages on workers, and what is asked of them afterwards."""

import os

# Before torch is imported: threads that wait for each other sleep rather than spin, as they share the cores with others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
