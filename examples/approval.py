"""Ask a person, and wait for the answer for as long as it takes: minutes, days, restarts.

    sostenuto run examples/approval.py

The run prints the command with which the answer is given, from any terminal:

    sostenuto resolve ID --value '{"approved": true, "by": "Ada"}'

Nothing need keep running until then. Without a terminal the command ends after a moment, with
exit code 4 (suspended), and the same command goes on where it was once the answer is there.
`sostenuto reject ID --value '"too expensive"'` raises PromiseRejectedError in this file.

APPROVAL_LOG, optional, names a file to which every step that really runs appends a line.
"""

import os
import time
from datetime import timedelta


def log_step(name):
    """Append one line to APPROVAL_LOG, whole even if several processes write at once."""
    if path := os.environ.get("APPROVAL_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


def draft_offer(customer):
    """What is to be approved."""
    log_step("draft")
    return {"customer": customer, "item": "monitor arm", "quantity": 40, "euros": 4_880}


def send_offer(offer, approved_by):
    """Send it. The customer's reference makes a second sending harmless."""
    log_step("send")
    return f"offer of {offer['euros']:,} EUR sent to {offer['customer']}, approved by {approved_by}"


offer = await ctx.run(draft_offer, "Brightwater Ltd")
print(f"To be approved: {offer['quantity']} x {offer['item']} for {offer['euros']:,} EUR")

# A durable promise. It belongs to this execution and is settled by its id, from any process.
answer = await ctx.promise(timeout=timedelta(days=14))

if answer.get("approved"):
    outcome = await ctx.run(send_offer, offer, answer.get("by", "somebody"))
else:
    outcome = f"not sent: refused by {answer.get('by', 'somebody')}"
outcome
