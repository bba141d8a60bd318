"""The driver in the background: ``python -P -m nas.service.background JOB``, on the store that ``NAS_STORE`` names.

It takes the job before it loads what takes seconds, so that whoever started it sees within a moment that it lives.
"""

from __future__ import annotations

import sys

from nas.core import CancelledError, JobState, UserError
from nas.service.lease import leased
from nas.store import open_store


def main() -> int:
    """Run the job named on the command line and return an exit code, as the command line has them."""
    store, job = open_store(create=False), sys.argv[1]
    try:
        with leased(store, job) as lease:
            if lease.store.heartbeat() in (JobState.CANCELLING, JobState.CANCELLED):  # before this process came so far
                lease.store.set_state(job, JobState.CANCELLED)
                return 130
            try:
                from nas.service.driver import drive
            except Exception as error:
                lease.store.set_state(job, JobState.FAILED, f"the driver cannot be loaded: {type(error).__name__}: {error}")
                raise
            drive(lease)
    except CancelledError:
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
