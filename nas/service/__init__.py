"""Jobs: reading them, running their stages on workers, and what is asked of them afterwards."""
