"""Load a CSV of orders into a SQLite report, with currency rates from a service that often fails.

    sostenuto run examples/etl_orders.py

The file has `# %%` cells, and the run shows which one it is in. Kill it at any moment and run it
again: rates that were fetched are not asked for again, batches that were loaded are not loaded
twice.

What to know when writing such a file (stdlib_census.py begins at the beginning):

* `ctx.options(retry=...)` takes tenacity's strategies. Failed attempts are durable: a resumed run
  goes on with the next attempt, after what is left of the wait.
* A step may run again if the process dies in the middle of it. load_batch() is safe to repeat,
  because the order number is the table's key.

Three environment variables, all optional: ETL_ORDERS names the CSV, ETL_REPORT the report
(orders_report.db), and ETL_LOG a file to which every step that really runs appends a line.
"""

# %% what it needs
import csv
import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from itertools import batched
from pathlib import Path

import tenacity

ORDERS = Path(os.environ.get("ETL_ORDERS", Path(__file__).parent / "data" / "orders.csv"))
REPORT = Path(os.environ.get("ETL_REPORT", "orders_report.db"))
EUROS_PER_UNIT = {"EUR": 1.0, "GBP": 1.17, "USD": 0.92, "SEK": 0.088}


def log_step(name):
    """Append one line to ETL_LOG, whole even if several processes write at once."""
    if path := os.environ.get("ETL_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


def read_orders():
    """Read the orders; rows that cannot be used are kept apart, with the reason."""
    log_step("(read)")
    good, bad = [], []
    with ORDERS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                row["amount"] = int(row["quantity"]) * float(row["unit_price"])
                good.append(row)
            except ValueError as error:
                bad.append({"order": row["order"], "reason": str(error)})
    return good, bad


def fetch_rate(currency):
    """Ask a service for a rate. It is down every other time, as some are."""
    log_step(f"rate-{currency}")
    if random.random() < 0.5:
        raise ConnectionError("the rate service does not answer")
    return EUROS_PER_UNIT[currency]


def load_batch(number, rows, rates):
    """Write orders into the report. Doing it twice is doing it once: the order is the key."""
    log_step(f"load-{number}")
    with closing(sqlite3.connect(REPORT)) as report, report:
        report.execute(
            "CREATE TABLE IF NOT EXISTS orders "
            "(number TEXT PRIMARY KEY, day TEXT, customer TEXT, item TEXT, euros REAL)"
        )
        report.executemany(
            "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?)",
            [
                (
                    row["order"],
                    row["date"],
                    row["customer"],
                    row["item"],
                    round(row["amount"] * rates[row["currency"]], 2),
                )
                for row in rows
            ],
        )
    return len(rows)


# %% extract
orders, refused = await ctx.run(read_orders)
for row in refused:
    print(f"left out {row['order']}: {row['reason']}")

# %% fetch the rates, however often that takes
patient = tenacity.AsyncRetrying(
    retry=tenacity.retry_if_exception_type(ConnectionError),
    stop=tenacity.stop_after_attempt(20),
    wait=tenacity.wait_exponential(multiplier=0.05, max=1),
)
rates = {}
for currency in sorted({row["currency"] for row in orders}):
    rates[currency] = await ctx.options(retry=patient).run(fetch_rate, currency)

# %% load
loaded = 0
for number, rows in enumerate(batched(orders, 20), 1):
    loaded += await ctx.run(load_batch, number, list(rows), rates)

# %% report
customers = Counter()
with closing(sqlite3.connect(REPORT)) as report:
    customers.update(dict(report.execute("SELECT customer, sum(euros) FROM orders GROUP BY 1")))
for customer, euros in customers.most_common():
    print(f"{customer:<20} {euros:>12,.2f} EUR")
{"loaded": loaded, "left out": len(refused), "euros": round(customers.total(), 2)}
