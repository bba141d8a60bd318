"""Cards: each module turns values of `nas.core` into a frame (`info`) and a frame into a figure (`draw`)."""
