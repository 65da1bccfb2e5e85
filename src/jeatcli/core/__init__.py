"""The method of the paper: energies, the attack, the chain, the loss, the networks.

Tensors in, tensors out: no file, no device, no message. May import torch, `errors`, `settings`
and `catalogue`.
"""
