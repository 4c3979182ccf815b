"""Time training steps of torch, one thread: the other side of figures train.

    apt install python3-torch libopenblas0-pthread

First prints a line of JSON: versions, and the BLAS that torch has loaded. Then,
for each line "CASE STEPS" on stdin, makes so many steps and prints the
nanoseconds of CPU time that one took: what others do on the machine is not in
it. A step is what training repeats: gradients cleared,
forward, loss, backward, optimiser. The batch is always the same.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.manual_seed(1)


def dense(*widths):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pooled():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip


def classes(batch):
    return torch.arange(batch) % 10


CASES = {
    "mlp100": (dense(100, 50, 10), torch.randn(32, 100), torch.randn(32, 10), F.mse_loss),
    "mlp784": (dense(784, 128, 10), torch.randn(64, 784), classes(64), F.cross_entropy),
    "cnn": (pooled(), torch.randn(64, 1, 28, 28), classes(64), F.cross_entropy),
    "cnn-channels-last": (
        pooled().to(memory_format=torch.channels_last),
        torch.randn(64, 1, 28, 28).to(memory_format=torch.channels_last),
        classes(64),
        F.cross_entropy,
    ),
}


def stepper(model, x, y, loss):
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss(model(x), y).backward()
        optimiser.step()

    return step


def main():
    steps = {name: stepper(*case) for name, case in CASES.items()}
    torch.randn(2, 2) @ torch.randn(2, 2)
    with open("/proc/self/maps") as maps:
        blas = sorted({line.split()[-1] for line in maps if "blas" in line})
    print(json.dumps({"torch": torch.__version__, "blas": blas, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        step = steps[name]
        start = time.process_time_ns()
        for _ in range(int(count)):
            step()
        print((time.process_time_ns() - start) / int(count), flush=True)


main()
