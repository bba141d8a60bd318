"""Neural architecture search for several tasks on one input, under a real device's budget.

`import nas` gives the values of `nas.core` and loads neither torch, Ray, SQLAlchemy nor Streamlit.
"""

from nas.core import *  # noqa: F403  (the public values of the package are exactly those of nas.core)
from nas.core import __all__ as __all__

__version__ = "0.1.0"
