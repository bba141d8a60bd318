"""How a supernet is trained and how a subnet of it is evaluated."""
