"""Capture of PyTorch networks through torch.export (training IR: ATen operators as the source called them)."""
