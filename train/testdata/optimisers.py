"""Write optimisers.json: what torch.optim makes of one parameter and given gradients.

    apt install python3-torch
    /usr/bin/python3 optimisers.py > optimisers.json

TestOptimisersAsTorch compares. Every number is the float32 nearest to the decimal.
"""

import json

import torch

START = [0.5, -1.25, 2.0, 0.0, -0.03125]
RATES = [0.1, 0.05, 0.2, 0.025, 0.1, 0.1]


def gradient(step):
    """The gradient of a step does not depend on the parameter: small dyadic numbers, some 0."""
    return [((step * 7 + i * 5) % 16 - 8) / 16 for i in range(len(START))]


def run(make):
    p = torch.nn.Parameter(torch.tensor(START))
    optimiser = make([p])
    values = []
    for step, rate in enumerate(RATES):
        for group in optimiser.param_groups:
            group["lr"] = rate
        p.grad = torch.tensor(gradient(step))
        optimiser.step()
        values.append([float(v) for v in p.detach()])
    return values


CASES = {
    "sgd": (lambda p: torch.optim.SGD(p, 1), {"Method": "sgd"}),
    "sgd, decay": (lambda p: torch.optim.SGD(p, 1, weight_decay=0.25), {"Method": "sgd", "Decay": 0.25}),
    "momentum": (lambda p: torch.optim.SGD(p, 1, momentum=0.9), {"Method": "momentum"}),
    "nesterov, decay": (
        lambda p: torch.optim.SGD(p, 1, momentum=0.75, nesterov=True, weight_decay=0.01),
        {"Method": "momentum", "Momentum": 0.75, "Nesterov": True, "Decay": 0.01},
    ),
    "adam": (lambda p: torch.optim.Adam(p), {"Method": "adam"}),
    "adam, decay": (
        lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.125),
        {"Method": "adam", "Beta1": 0.8, "Beta2": 0.95, "Epsilon": 1e-3, "Decay": 0.125},
    ),
    "adamw": (lambda p: torch.optim.AdamW(p, weight_decay=0.125), {"Method": "adamw", "Decay": 0.125}),
}

cases = [{"name": name, "options": options, "values": run(make)} for name, (make, options) in CASES.items()]
gradients = [gradient(step) for step in range(len(RATES))]
print(json.dumps({"torch": torch.__version__, "start": START, "rates": RATES, "gradients": gradients, "cases": cases}, indent=1))
