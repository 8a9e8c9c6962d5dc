"""One step of gradient descent from the same weights on the same batch, in every framework."""
