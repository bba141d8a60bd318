"""What tests of several packages use."""

import atexit
import os
import shutil
import signal
import tempfile

# No test touches the folders of whoever runs it: of data, and of what may run.
os.environ["NAS_HOME"] = tempfile.mkdtemp(prefix="nas-tests-")
os.environ["NAS_CONFIG"] = os.environ["NAS_HOME"]
atexit.register(shutil.rmtree, os.environ["NAS_HOME"], ignore_errors=True)

pytest_plugins = ["postgres"]

# A script's background command starts deaf to interrupts, and hands that on to what it starts. Some tests interrupt theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
