"""Networks as source code of a framework: what all frameworks share."""
