"""PyTorch as a candidate: networks captured in CUDA graphs, timed on request.

`speedup --pytorch <interpreter>` runs this program and talks to it by lines of JSON. Each request is an object:

  {"prepare": <name>, "network": {...}, "weights": <safetensors>, "images": <floats>, "scores": <floats>,
   "batch": n, "tf32": bool, "sparse": bool}     -> {"detail": <how it runs>}; writes the scores
  {"time": <name>, "calls": n}                   -> {"seconds": s}
  {"forget": true}                               -> {}

An answer {"error": <text>} says that a request failed; the program goes on.
"""

import json
import statistics
import struct
import sys
import time

import torch
import torch.nn.functional as F

DEVICE = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
ON_GPU = DEVICE.type == "cuda"


def read_safetensors(path):
    """The arrays of a safetensors file of 32-bit floats, by name."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if begin == end:
            arrays[name] = torch.zeros(entry["shape"])
        else:
            values = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
            arrays[name] = values.reshape(entry["shape"])
    return arrays


class Network:
    """A network as the Rust side describes it, on the device."""

    def __init__(self, description, arrays, sparse, channels_last):
        self.layers = description["layers"]
        self.channels_last = channels_last
        self.parameters = {}
        self.sparse = {}
        for name, array in arrays.items():
            array = array.to(DEVICE)
            if channels_last and array.dim() == 4:
                array = array.contiguous(memory_format=torch.channels_last)
            self.parameters[name] = array
            if sparse and ".weight" in name and array.dim() in (2, 4) and array.numel() > 0:
                self.sparse[name] = array.reshape(array.shape[0], -1).to_sparse_csr()

    def arrange(self, images):
        if self.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def multiply(self, name, columns):
        """W X, W in compressed rows."""
        return torch.mm(self.sparse[name], columns)

    def convolve(self, x, weight, bias, op, groups):
        stride, padding, kernel = op["stride"], op["padding"], op["kernel"]
        if not self.sparse:
            return F.conv2d(x, self.parameters[weight], bias, stride, padding, 1, groups)
        side = [(size + 2 * padding - kernel) // stride + 1 for size in x.shape[2:]]
        outputs = []
        weights = self.parameters[weight].reshape(groups, -1, x.shape[1] // groups * kernel * kernel)
        for group, part in enumerate(x.chunk(groups, dim=1)):
            columns = F.unfold(part, kernel, padding=padding, stride=stride)
            flat = columns.permute(1, 0, 2).reshape(columns.shape[1], -1)
            name = weight if groups == 1 else f"{weight}#{group}"
            if name not in self.sparse:
                self.sparse[name] = weights[group].to_sparse_csr()
            y = self.multiply(name, flat).reshape(-1, x.shape[0], *side).permute(1, 0, 2, 3)
            outputs.append(y)
        return torch.cat(outputs, 1) + bias.reshape(1, -1, 1, 1)

    def uneven(self, x, name, bias, op, groups):
        outputs, first, node = [], 0, 0
        for place, group in enumerate(groups):
            inputs, nodes = group["inputs"], group["outputs"]
            own = bias[node : node + nodes]
            if nodes > 0 and inputs > 0:
                part = x[:, first : first + inputs]
                outputs.append(self.convolve(part, f"{name}.weight.{place}", own, op, 1))
            elif nodes > 0:
                stride, padding, kernel = op["stride"], op["padding"], op["kernel"]
                side = [(size + 2 * padding - kernel) // stride + 1 for size in x.shape[2:]]
                outputs.append(own.reshape(1, -1, 1, 1).expand(x.shape[0], nodes, *side))
            first, node = first + inputs, node + nodes
        return torch.cat(outputs, 1)

    def linear(self, x, name):
        x = torch.flatten(x, 1)
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        if f"{name}.weight" in self.sparse:
            return self.multiply(f"{name}.weight", x.t().contiguous()).t() + bias
        return F.linear(x, weight, bias)

    def run(self, x):
        for layer in self.layers:
            name, op = layer["name"], layer["op"]
            kind = op if isinstance(op, str) else next(iter(op))
            own = {} if isinstance(op, str) else op[kind]
            if kind == "conv":
                bias = self.parameters[f"{name}.bias"]
                groups = own["groups"]
                if "even" in groups:
                    x = self.convolve(x, f"{name}.weight", bias, own, groups["even"])
                else:
                    x = self.uneven(x, name, bias, own, groups["uneven"])
            elif kind == "linear":
                x = self.linear(x, name)
            elif kind == "relu":
                x = F.relu(x)
            elif kind == "max-pool":
                x = F.max_pool2d(x, own["kernel"], own["stride"], own["padding"])
            elif kind == "average-pool":
                x = F.avg_pool2d(x, own["kernel"], own["stride"], own["padding"])
            elif kind == "local-response-norm":
                size = own["size"]
                mean = F.avg_pool2d(x * x, size, 1, size // 2)
                x = x / (1 + own["alpha"] * mean) ** own["beta"]
            elif kind == "batch-norm":
                mean, variance = (self.parameters[f"{name}.running_{what}"] for what in ("mean", "var"))
                weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
                x = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, own["epsilon"])
            elif kind not in ("dropout", "mask"):
                raise ValueError(f"a layer of kind {kind}")
        return torch.flatten(x, 1)


class Runner:
    """A network on its images, captured in a graph where the device and the library allow it."""

    def __init__(self, network, images, tf32):
        self.network = network
        self.tf32 = tf32
        self.images = network.arrange(images)
        self.graph = None
        self.reason = "" if ON_GPU else "no GPU"
        with torch.no_grad():
            for _ in range(3):
                self.scores = self.network.run(self.images)
            if ON_GPU:
                torch.cuda.synchronize()
                self.capture()

    def capture(self):
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.network.run(self.images)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.scores = self.network.run(self.images)
            graph.replay()
            torch.cuda.synchronize()
            self.graph = graph
        except RuntimeError as error:
            self.reason = str(error).splitlines()[0]
            torch.cuda.synchronize()
            self.scores = self.network.run(self.images)

    def once(self):
        if self.graph is not None:
            self.graph.replay()
        else:
            self.scores = self.network.run(self.images)

    def seconds(self, calls):
        if self.graph is None:
            set_tf32(self.tf32)
        with torch.no_grad():
            if not ON_GPU:
                start = time.perf_counter()
                for _ in range(calls):
                    self.once()
                return time.perf_counter() - start
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(calls):
                self.once()
            end.record()
            torch.cuda.synchronize()
            return begin.elapsed_time(end) / 1e3

    def detail(self):
        way = "CUDA graph" if self.graph is not None else f"eager ({self.reason})"
        return f"{way}, {'channels last' if self.network.channels_last else 'contiguous'}"


def set_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = True


def prepare(request):
    """The faster of both memory formats; compressed rows have one."""
    set_tf32(request["tf32"])
    description, arrays = request["network"], read_safetensors(request["weights"])
    with open(request["images"], "rb") as file:
        images = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    images = images.reshape(request["batch"], *description["input"]).to(DEVICE)
    best = None
    for channels_last in [False] if request["sparse"] else [False, True]:
        network = Network(description, arrays, request["sparse"], channels_last)
        runner = Runner(network, images, request["tf32"])
        calls = max(1, min(100, int(2e-3 / max(runner.seconds(1), 1e-7))))
        taken = statistics.median(runner.seconds(calls) / calls for _ in range(5))
        if best is None or taken < best[0]:
            best = (taken, runner)
    runner = best[1]
    runner.once()
    with open(request["scores"], "wb") as file:
        file.write(runner.scores.detach().float().cpu().contiguous().numpy().tobytes())
    return runner


def main():
    runners = {}
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                runner = prepare(request)
                runners[request["prepare"]] = runner
                answer = {"detail": runner.detail()}
            elif "time" in request:
                answer = {"seconds": runners[request["time"]].seconds(request["calls"])}
            else:
                runners.clear()
                if ON_GPU:
                    torch.cuda.empty_cache()
                answer = {}
        except Exception as error:  # whatever PyTorch raises is this candidate's end, not the run's
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


main()
