"""Weight sharing: a subnet is an ordinary module whose parameters are slices of the supernet."""
