"""Write fixtures.json: what torch computes for small graphs, forward and backward.

    apt install python3-torch python3-numpy
    /usr/bin/python3 fixtures.py            # writes fixtures.json beside this file

Each case is a graph in the form of model.Graph (operators of ONNX), with its
input x and its constants, what torch's own operator makes of them, and the
gradients that torch's autograd finds for the gradient "up" of the output y.
Weights of LSTM and GRU are given in the order that ONNX has for their gates,
and so are their gradients. "losses" hold the value and the gradient of losses
by logits. "steps" is a small net with all its parameters before and after
three steps of Adam.

Numbers are little-endian float32 in base64. Made with torch 1.13 on one thread.
"""

import base64
import json
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(20)
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent


def pack(t):
    a = np.ascontiguousarray(t.detach().numpy(), dtype="<f4")
    return {"shape": list(a.shape), "data": base64.b64encode(a.tobytes()).decode()}


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).requires_grad_()


def node(op, inputs, outputs=("y",), **attrs):
    return {"op": op, "in": list(inputs), "out": list(outputs), "attrs": attrs}


def case(name, nodes, x, consts, y, extra=None, training=False):
    """Run backward from y, and return the case. consts are leaves, or pairs
    of what the graph holds and a function that makes it, and its gradient, of
    torch's own."""
    up = torch.randn_like(y)
    y.backward(up)
    c = {"name": name, "training": training, "nodes": nodes, "x": pack(x), "y": pack(y), "up": pack(up), "dx": pack(x.grad), "consts": {}, "gradients": {}}
    for key, t in consts.items():
        if isinstance(t, tuple):
            parts, order = t
            c["consts"][key] = pack(order([p.detach() for p in parts]))
            c["gradients"][key] = pack(order([p.grad for p in parts]))
            continue
        c["consts"][key] = pack(t)
        if t.requires_grad:
            c["gradients"][key] = pack(t.grad)
    c["statistics"] = {k: pack(t) for k, t in (extra or {}).items()}
    return c


def conv(name, x, w, b, stride, pad, dilation=(1, 1), groups=1):
    y = F.conv2d(x, w, b, stride, pad, dilation, groups)
    n = node("Conv", ["x", "w", "b"], strides=list(stride), pads=list(pad) * 2, dilations=list(dilation), group=groups)
    return case(name, [n], x, {"w": w, "b": b}, y)


def batch_norm():
    x, s, b = leaf(3, 4, 3, 2), leaf(4), leaf(4)
    mean, var = torch.randn(4) * 0.1, torch.rand(4) + 0.5
    consts = {"s": s, "b": b, "m": mean.clone(), "v": var.clone()}
    y = F.batch_norm(x, mean, var, s, b, training=True, momentum=0.1, eps=1e-5)
    n = node("BatchNormalization", ["x", "s", "b", "m", "v"], epsilon=1e-5, momentum=0.9)
    return case("batch norm", [n], x, consts, y, {"m": mean, "v": var}, training=True)


def recurrent(kind, directions):
    """LSTM or GRU over x [T, B, I]."""
    steps, batch, inputs, hidden = 4, 3, 3, 5
    gates, order = (4, [0, 3, 1, 2]) if kind == "LSTM" else (3, [1, 0, 2])
    net = getattr(nn, kind)(inputs, hidden, bidirectional=directions == 2)
    x = leaf(steps, batch, inputs)
    y, _ = net(x)
    y = y.view(steps, batch, directions, hidden).permute(0, 2, 1, 3).contiguous()

    def turned(t):
        return torch.cat([t.chunk(gates)[k] for k in order])

    def both(names):
        return [getattr(net, n + "_l0" + way) for way in ("", "_reverse")[:directions] for n in names]

    consts = {
        "w": (both(["weight_ih"]), lambda ts: torch.stack([turned(t) for t in ts])),
        "r": (both(["weight_hh"]), lambda ts: torch.stack([turned(t) for t in ts])),
        "b": (both(["bias_ih", "bias_hh"]), lambda ts: torch.stack([turned(t) for t in ts]).view(directions, -1)),
    }
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
    if kind == "GRU":
        attrs["linear_before_reset"] = 1
    name = kind.lower() + (" both ways" if directions == 2 else "")
    return case(name, [node(kind, ["x", "w", "r", "b"], **attrs)], x, consts, y)


def losses():
    logits, teacher = leaf(5, 7, scale=2), torch.randn(5, 7) * 2
    labels = torch.randint(0, 7, (5,))
    out = []
    for name, f in {
        "cross entropy": lambda: F.cross_entropy(logits, labels),
        "cross entropy smoothed by 0.1": lambda: F.cross_entropy(logits, labels, label_smoothing=0.1),
        "kl at temperature 4": lambda: 16 * F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean"),
        "mse": lambda: F.mse_loss(logits, teacher),
    }.items():
        logits.grad = None
        loss = f()
        loss.backward()
        out.append({"name": name, "loss": loss.item(), "gradient": pack(logits.grad)})
    return {"logits": pack(logits), "teacher": pack(teacher), "labels": labels.tolist(), "of": out}


def steps():
    """Three steps of Adam on a net of a convolution, a norm and a dense layer."""
    w1, s, b = leaf(4, 1, 3, 3, scale=0.3), torch.ones(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    w2, b2 = leaf(5, 36, scale=0.2), leaf(5, scale=0.1)
    mean, var = torch.zeros(4), torch.ones(4)
    x, labels = torch.randn(6, 1, 6, 6), torch.randint(0, 5, (6,))
    trained = {"w1": w1, "s": s, "b": b, "w2": w2, "b2": b2}
    c = {
        "name": "three steps of adam", "x": pack(x), "labels": labels.tolist(), "rate": 1e-2,
        "consts": {k: pack(t) for k, t in {**trained, "m": mean, "v": var}.items()}, "losses": [],
        "nodes": [
            node("Conv", ["x", "w1"], ["c"], pads=[1, 1, 1, 1]), node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]), node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["p"], ["f"]), node("Gemm", ["f", "w2", "b2"], ["y"], transB=1),
        ],
    }
    adam = torch.optim.Adam(trained.values(), lr=1e-2)
    for _ in range(3):
        h = F.relu(F.batch_norm(F.conv2d(x, w1, padding=1), mean, var, s, b, training=True))
        loss = F.cross_entropy(F.linear(F.max_pool2d(h, 2).flatten(1), w2, b2), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        c["losses"].append(loss.item())
    c["after"] = {k: pack(t) for k, t in {**trained, "m": mean, "v": var}.items()}
    return c


def main():
    cases = [
        conv("conv", leaf(2, 3, 5, 6), leaf(4, 3, 3, 3), leaf(4), (1, 1), (1, 1)),
        conv("conv with strides, pads and dilations", leaf(2, 2, 9, 8), leaf(3, 2, 3, 2), leaf(3), (2, 3), (2, 1), (2, 1)),
        conv("conv of groups", leaf(2, 4, 5, 4), leaf(6, 2, 3, 3), leaf(6), (1, 2), (1, 0), groups=2),
        conv("depthwise", leaf(2, 5, 6, 5), leaf(5, 1, 3, 3), leaf(5), (2, 1), (1, 1), groups=5),
        batch_norm(),
    ]
    x = leaf(2, 3, 7, 6)
    cases.append(case("max pool", [node("MaxPool", ["x"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], x, {}, F.max_pool2d(x, 3, 2, 1)))
    for counted in (0, 1):
        x = leaf(2, 3, 7, 6)
        n = node("AveragePool", ["x"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=counted)
        y = F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=bool(counted))
        cases.append(case("average pool" + (" counting pads" if counted else ""), [n], x, {}, y))
    for kind in ("LSTM", "GRU"):
        for directions in (1, 2):
            cases.append(recurrent(kind, directions))
    x, w, b = leaf(4, 6), leaf(5, 6), leaf(5)
    cases.append(case("dense and softmax", [node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Softmax", ["h"], axis=-1)], x, {"w": w, "b": b}, F.softmax(F.linear(x, w, b), 1)))
    for name, f, attrs in (
        ("Sigmoid", torch.sigmoid, {}), ("Tanh", torch.tanh, {}), ("LeakyRelu", lambda t: F.leaky_relu(t, 0.1), {"alpha": 0.1}),
        ("HardSwish", F.hardswish, {}), ("HardSigmoid", F.hardsigmoid, {"alpha": 1 / 6}), ("Gelu", F.gelu, {}), ("Softplus", F.softplus, {}), ("Elu", F.elu, {}),
    ):
        x = leaf(3, 11, scale=2)
        cases.append(case(name.lower(), [node(name, ["x"], **attrs)], x, {}, f(x)))
    text = json.dumps({"cases": cases, "losses": losses(), "steps": steps()}, indent=1)
    (HERE / "fixtures.json").write_text(text + "\n")


main()
