"""Verify usage receipts: python3 verify_receipts.py FILE [HEAD], where HEAD is the last seal's
SHA-256 as the relay shows it. Without HEAD a file that was made up as a whole looks right too."""

import hashlib
import json
import sys
from collections import Counter


def verify(path, head=None):
    """The summary of a file in which every hash and sum is right. Raises ValueError."""
    totals, bare, position, sealed, summary = Counter(), [], 0, "0" * 64, None
    count, entries = 0, hashlib.sha256()
    for number, text in enumerate(open(path, "rb"), start=1):
        line, right = json.loads(text), summary is None
        if "position" in line:  # an entry; its bytes are hashed as they stand
            what = (line["metric"], line["channel"], line["zero_rated"])
            totals[line["hour"][:7], *what] += line["units"]
            count += 1
            entries.update(text)
        elif "number" in line:  # the seal of the entries above it, a link of the chain
            if position:
                right &= (line["previous_sha256"], line["first_position"]) == (sealed, position)
            if count:
                right &= line["entries_sha256"] == entries.hexdigest()
            else:  # must be one that holds nothing of the month
                bare.append((line["first_hour"][:7], line["last_hour"][:7]))
            sealed, position = hashlib.sha256(text.strip()).hexdigest(), line["last_position"] + 1
            count, entries = 0, hashlib.sha256()
        else:
            summary, month = line, line["month"]
            sums = [[*place[1:], n] for place, n in sorted(totals.items()) if place[0] == month]
            right &= line["head_sha256"] == sealed == (head or sealed) and sums == line["totals"]
            right &= count == 0 and not any(first <= month <= last for first, last in bare)
        if not right or line.get("v", 0) not in (0, 1):  # in the first receipts lines had no "v"
            raise ValueError(f"line {number} is not what was sealed, or needs a newer script")
    return summary or sys.exit("the summary is missing")


print("verified:", json.dumps(verify(*sys.argv[1:])))
