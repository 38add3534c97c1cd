"""Writes the state dicts that the reader of torch.save's files is tested on (PyTorch 2.11)."""

from collections import OrderedDict

import torch

weight = torch.arange(6, dtype=torch.float32).view(2, 3) / 4
state = OrderedDict()
state["ip1.weight"] = weight
state["ip1.bias"] = torch.tensor([1.0, -1.0])
state["mask_ip1.alpha"] = torch.ones(1, 2)
state["bn1.num_batches_tracked"] = torch.tensor(7)

torch.save(state, "state_dict.pth")
torch.save({"acc": 98.48, "epoch": 3, "state_dict": state}, "checkpoint.pth.tar")
torch.save({"acc": 98.48, "state_dict": state}, "legacy.pth.tar", _use_new_zipfile_serialization=False)

parameters = {name: torch.nn.Parameter(value) if value.is_floating_point() else value for name, value in state.items()}
torch.save(OrderedDict(parameters), "parameters.pth")

# Columns before rows in memory, part of a larger storage, in another type.
large = torch.zeros(4, 2, dtype=torch.float64)
large[1:] = weight.t()
state["ip1.weight"] = large[1:].t()
torch.save(state, "transposed_f64.pth")
