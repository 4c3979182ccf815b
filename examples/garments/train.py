"""Train the demo network on Fashion-MNIST and write garments.onnx.

    apt install python3-torch python3-numpy libopenblas0 dataset-fashion-mnist
    /usr/bin/python3 train.py                  # about twelve minutes on one core

The network is a small MobileNetV2 (arXiv:1801.04381): a 3x3 convolution, four
inverted residual blocks with depthwise convolutions, a 1x1 convolution, an
average over the picture and one dense layer. It was made to be a fair test of
a compressor: depthwise layers and residual sums are where 8 bits usually hurt.

All 60,000 training pictures are used and the 10,000 test pictures are looked
at once, after the last step. Every random choice comes from --seed; the same
seed, torch and kind of CPU should give the same file.

garments.onnx (opset 13)
    image   float32 [N, 1, 28, 28]   (pixel/255 - MEAN) / STD, white on black
    scores  float32 [N, 10]          probabilities, in the order of labels.txt

Batch normalisation stays in the file as its own operator: dunlin folds it.
"""

import argparse
import ctypes
import math
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from idx import read_idx

HERE = pathlib.Path(__file__).resolve().parent
MEAN, STD = 0.2860, 0.3530  # of the training pixels; prep.toml says the same


def load(folder, part):
    """Return images [n, 1, 28, 28] ready for the network, and labels [n]."""
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    images = (torch.from_numpy(pixels / 255) - MEAN) / STD
    return images.unsqueeze(1), torch.from_numpy(labels)


class ConvNorm(nn.Sequential):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout)


class Inverted(nn.Module):
    """MobileNetV2's block: widen (1x1), filter (3x3 depthwise), narrow (1x1)."""

    def __init__(self, cin, wide, cout, stride=1):
        super().__init__()
        self.widen = ConvNorm(cin, wide, 1)
        self.filter = ConvNorm(wide, wide, 3, stride, groups=wide)
        self.narrow = ConvNorm(wide, cout, 1)
        self.residual = stride == 1 and cin == cout

    def forward(self, x):
        y = self.narrow(F.relu(self.filter(F.relu(self.widen(x)))))
        return x + y if self.residual else y


class Garments(nn.Module):
    """The network. It gives logits, until export puts a softmax in place of scores."""

    def __init__(self):
        super().__init__()
        self.stem = ConvNorm(1, 24, 3)  # 28x28
        self.pool = nn.MaxPool2d(2)
        self.block1 = Inverted(24, 72, 24)  # 14x14
        self.block2 = Inverted(24, 96, 64, stride=2)
        self.block3 = Inverted(64, 192, 64)  # 7x7
        self.block4 = Inverted(64, 192, 64)
        self.head = ConvNorm(64, 128, 1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(128, 10)
        self.scores = nn.Identity()

    def forward(self, x):
        x = self.pool(F.relu(self.stem(x)))
        x = self.block4(self.block3(self.block2(self.block1(x))))
        x = self.mean(F.relu(self.head(x)))
        return self.scores(self.classes(x.flatten(1)))


def augment(x, shift=2):
    """Mirror half of the batch and move each picture by up to shift pixels."""
    n = len(x)
    black = -MEAN / STD
    x = F.pad(x[:, 0], [shift] * 4, value=black)
    grid = torch.arange(28)
    cols = grid.expand(n, 28).clone()
    mirror = torch.rand(n) < 0.5
    cols[mirror] = cols[mirror].flip(1)
    cols += torch.randint(0, 2 * shift + 1, (n, 1))
    rows = grid + torch.randint(0, 2 * shift + 1, (n, 1))
    x = x[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]
    return x.unsqueeze(1).to(memory_format=torch.channels_last)


def train(model, images, labels, epochs, batch, peak):
    """SGD with Nesterov momentum; one epoch of warm-up, then a cosine to zero."""
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]  # biases and norms
    groups = [{"params": decay, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True)
    per_epoch = len(images) // batch
    total = epochs * per_epoch

    def rate(step):
        if step < per_epoch:
            return (step + 1) / per_epoch
        return 0.5 * (1 + math.cos(math.pi * (step - per_epoch) / (total - per_epoch)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    start = time.time()
    for epoch in range(epochs):
        model.train()
        mean_loss = 0.0
        for pick in torch.randperm(len(images))[: per_epoch * batch].split(batch):
            loss = F.cross_entropy(model(augment(images[pick])), labels[pick], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            mean_loss += loss.item() / per_epoch
        print(f"epoch {epoch + 1:2}/{epochs}  loss {mean_loss:.4f}  {time.time() - start:.0f} s", flush=True)


@torch.no_grad()
def predict(model, images):
    """Return logits [n, 10]."""
    model.eval()
    return torch.cat([model(x) for x in images.split(500)])


def report(logits, labels):
    """Print the accuracy, in all and of each class."""
    right = logits.argmax(1) == labels
    for c, name in enumerate((HERE / "labels.txt").read_text().split("\n")[:10]):
        print(f"  {name:12} {100 * right[labels == c].float().mean():6.2f} %")
    print(f"  {'all':12} {100 * right.float().mean():6.2f} %  of {len(labels)} test pictures")


def count(model):
    """Print parameters, and multiply-accumulates for one picture."""
    macs = 0

    def add(layer, _, out):
        nonlocal macs
        macs += layer.weight[0].numel() * out[0].numel()

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [m.register_forward_hook(add) for m in layers]
    predict(model, torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {macs:,} multiply-accumulates a picture")


def export(model, path):
    """Write the network with a softmax at its end; the batch axis is symbolic."""
    model.scores = nn.Softmax(1)
    torch.onnx.export(
        model.eval(),
        torch.zeros(1, 1, 28, 28),
        str(path),
        opset_version=13,
        training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fold the norms
        do_constant_folding=False,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}},
    )


def main():
    p = argparse.ArgumentParser(description="train the demo network, write garments.onnx")
    p.add_argument("--data", type=pathlib.Path, default="/usr/share/datasets/fashion-mnist")
    p.add_argument("--out", type=pathlib.Path, default=HERE / "garments.onnx")
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--rate", type=float, default=0.1, help="highest learning rate")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--limit", type=int, default=60000, help="training pictures, fewer for a quick try")
    args = p.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)

    # Each step frees and asks again for the same megabytes. Keep them: handing
    # them back to the kernel costs a quarter of the time (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD).
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)
    libc.mallopt(-1, 1 << 30)

    model = Garments().to(memory_format=torch.channels_last)  # twice as fast here
    count(model)
    images, labels = load(args.data, "train")
    train(model, images[: args.limit], labels[: args.limit], args.epochs, args.batch, args.rate)
    export(model, args.out)
    print(f"wrote {args.out}, {args.out.stat().st_size:,} bytes")

    images, labels = load(args.data, "t10k")
    report(predict(model, images), labels)


if __name__ == "__main__":
    main()
