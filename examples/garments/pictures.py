"""Draw the sample, calibration and drop pictures from Fashion-MNIST.

    apt install python3-numpy python3-pil dataset-fashion-mnist
    /usr/bin/python3 pictures.py

    samples/      20 of each class, from the test pictures: to measure accuracy
    calibration/  20 of each class, from the training pictures: to find ranges
    drop/         1 of each class, from the test pictures, as a user would have
                  them: 224x224 colour JPEG, to be reduced and turned to grey

The choice is random with a fixed seed; no picture was left out or put in by
hand. A file's number is its place in the data set. Each folder has labels.csv.
"""

import argparse
import csv
import gzip
import pathlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent


def read_idx(path):
    """Return the bytes of a gzipped IDX file as an array of its shape.

    Layout: 0, 0, type (8: unsigned byte), rank, then rank sizes of 4 bytes,
    highest byte first, then the elements.
    """
    raw = gzip.open(path).read()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not IDX with unsigned bytes, begins with {raw[:4].hex()}")
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def choose(labels, each, seed):
    """Return the places of `each` pictures of every class, in rising order."""
    random = np.random.RandomState(seed)
    picks = [random.choice(np.flatnonzero(labels == c), each, replace=False) for c in range(10)]
    return np.sort(np.concatenate(picks))


def write(folder, data, part, each, seed, drop=False):
    """Write the chosen pictures of one part, and labels.csv beside them."""
    pixels = read_idx(data / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz")
    folder.mkdir(exist_ok=True)
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "class"])
        for i in choose(labels, each, seed):
            picture = Image.fromarray(pixels[i])
            if drop:
                name = f"{part}-{i:05}.jpg"
                big = picture.resize((224, 224), Image.BICUBIC).convert("RGB")
                big.save(folder / name, quality=90)
            else:
                name = f"{part}-{i:05}.png"
                picture.save(folder / name, optimize=True)
            table.writerow([name, labels[i]])


def main():
    p = argparse.ArgumentParser(description="draw the pictures of the demo")
    p.add_argument("--data", type=pathlib.Path, default="/usr/share/datasets/fashion-mnist")
    p.add_argument("--out", type=pathlib.Path, default=HERE)
    args = p.parse_args()
    write(args.out / "samples", args.data, "t10k", 20, seed=1)
    write(args.out / "calibration", args.data, "train", 20, seed=2)
    write(args.out / "drop", args.data, "t10k", 1, seed=3, drop=True)


if __name__ == "__main__":
    main()
