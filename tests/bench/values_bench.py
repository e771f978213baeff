"""Cost of the value codec beside the JSON encoder it feeds, as ratios taken in one run.

Prints one JSON object. Times are the best of several rounds, in microseconds per
operation; ``ratio`` is the codec over ``msgspec.json`` on the plain value.
Run: ``python tests/bench/values_bench.py``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import platform
import timeit

import msgspec

from durable.signing import SigningKey
from durable.values import ValueCodec

ROUNDS = 5


@dataclasses.dataclass
class Order:
    number: int
    items: list[str]


def best_us(run, number):
    return min(timeit.repeat(run, number=number, repeat=ROUNDS)) / number * 1e6


def main():
    key = SigningKey.generate()
    codec = ValueCodec(lambda: key)
    plain = {"id": 1, "name": "abc", "tags": ["a", "b"], "ok": True}
    rows = [dict(plain) for _ in range(10_000)]
    cases = {
        "text": ("hello", 20_000),
        "small dict": (plain, 20_000),
        "rows": (rows, 5),
        "datetime": (dt.datetime.now(dt.UTC), 20_000),
        "dataclass": (Order(1, ["a"]), 2_000),
        "1,000 dataclasses": ([Order(n, ["a"]) for n in range(1_000)], 5),
    }
    json_us = best_us(lambda: msgspec.json.encode(plain), 20_000)
    report = {"python": platform.python_version(), "msgspec_small_dict_us": round(json_us, 2)}
    for name, (value, number) in cases.items():
        data = codec.encode(value, where="bench")
        report[name] = {
            "encode_us": round(best_us(lambda v=value: codec.encode(v, where="x"), number), 2),
            "decode_us": round(best_us(lambda d=data: codec.decode(d), number), 2),
            "stored_bytes": len(msgspec.json.encode(data)),
        }
    report["rows"]["ratio"] = round(
        report["rows"]["encode_us"] / best_us(lambda: msgspec.json.encode(rows), 5), 2
    )
    report["small dict"]["ratio"] = round(report["small dict"]["encode_us"] / json_us, 2)
    report["digest_us"] = round(best_us(lambda: codec.digest((1, "a", plain), {}), 20_000), 2)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
