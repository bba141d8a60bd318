"""Features in, mean and standard deviation out."""
