"""Rewrites that compute ahead: constants, batch norms, scales, channel orders and pads go into the weights."""
