"""What tests of several packages use."""

pytest_plugins = ["postgres"]
