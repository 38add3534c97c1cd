"""Writes further files of the kinds that people have (PyTorch 1.13 or newer); those without a line here came from
elsewhere: a checkpoint of Python 2, and files that hold the same arrays under other names or in other types.

All hold ip1.weight [4, 8] with i / 8, ip1.bias, ip2.weight [2, 4], ip2.bias."""

import json
import struct
from collections import OrderedDict

import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ip1 = torch.nn.Linear(8, 4)
        self.act = torch.nn.ReLU()
        self.ip2 = torch.nn.Linear(4, 2)


net = Net()
with torch.no_grad():
    net.ip1.weight.copy_(torch.arange(32.0).view(4, 8) / 8)
    net.ip1.bias.copy_(torch.arange(4.0))
    net.ip2.weight.copy_(torch.arange(8.0).view(2, 4) / 8)
    net.ip2.bias.copy_(torch.arange(2.0))
state = OrderedDict((name, value.clone()) for name, value in net.state_dict().items())

torch.save(net, "whole-module.pth")
torch.save(torch.nn.DataParallel(net), "whole-module-parallel.pth")
torch.save({"epoch": 3, "net": net}, "whole-module-in-checkpoint.pth")
for protocol in (3, 4, 5):
    torch.save(state, f"protocol-{protocol}.pth", pickle_protocol=protocol)
torch.save({"seen": {1, 2}, "frozen": frozenset([3]), "model": state}, "with-sets.pth", pickle_protocol=4)
torch.save({"last": state, "best": state}, "shared-twice.pth")

# ip1.bias shows one element four times, ip2.weight every second column of a larger one, its rows last.
large = torch.zeros(8, 2)
large[::2] = state["ip2.weight"].t()
strided = OrderedDict(state)
strided["ip1.bias"] = torch.ones(1).expand(4)
strided["ip2.weight"] = large[::2].t()
torch.save(strided, "strided.pth")
huge = OrderedDict(state)
huge["ip1.weight"] = torch.ones(1).expand(1 << 20, 1 << 10)
torch.save(huge, "expanded-beyond-reason.pth")

optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
net.ip2(torch.relu(net.ip1(torch.ones(1, 8)))).sum().backward()
optimizer.step()
torch.save({"model": state, "optimizer": optimizer.state_dict()}, "with-optimizer.pth")
torch.save({"ip1.weight": state["ip1.weight"].to_sparse()}, "sparse-tensor.pth")
torch.save({"ip1.weight": torch.arange(4)}, "integers-only.pth")


def safetensors(path, arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


names = list(state)
shards = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
for shard, own in shards.items():
    safetensors(shard, {name: state[name] for name in own})
weight_map = {name: shard for shard, own in shards.items() for name in own}
with open("model.safetensors.index.json", "w") as file:
    json.dump({"metadata": {"total_size": 184}, "weight_map": weight_map}, file)
with open("outside.index.json", "w") as file:
    json.dump({"weight_map": {"ip1.weight": "../state_dict.pth"}}, file)
with open("missing-shard.index.json", "w") as file:
    json.dump({"weight_map": {"ip1.weight": "model-00003-of-00003.safetensors"}}, file)
