"""Task kinds: loss, metrics, and how a prediction is drawn."""
