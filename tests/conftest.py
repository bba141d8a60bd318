"""What tests of several packages use."""

import signal

pytest_plugins = ["postgres"]

# A script's background command starts deaf to interrupts, and hands that on to what it starts. Some tests interrupt theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
