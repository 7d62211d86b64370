"""``make prove``: every figure that is claimed, measured again, one line each.

Resumable: what was shown for the same source is not shown again. A claim that can't be checked here has failed; nothing
is skipped.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import traceback
from pathlib import Path

from benchmarks import claims_answers, claims_backbone, claims_code, claims_judges, claims_search
from benchmarks.claim import ROOT, Claim, Shown

CLAIMS = (
    *claims_answers.CLAIMS,
    *claims_code.CLAIMS,
    *claims_judges.CLAIMS,
    *claims_search.CLAIMS,
    *claims_backbone.CLAIMS,
)


def main() -> None:
    """Show the claims that this source has not shown yet; exit code 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("proof"))
    parser.add_argument("--only", action="append", choices=[claim.name for claim in CLAIMS])
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    record, source = arguments.out / "claims.json", source_digest()
    known = json.loads(record.read_text()) if record.exists() else {}
    failed = False
    for claim in CLAIMS:
        if arguments.only and claim.name not in arguments.only:
            continue
        entry = known.get(claim.name)
        if entry is None or entry["source"] != source or not entry["holds"]:
            holds, figure = _show(claim, arguments.data, arguments.out)
            known[claim.name] = entry = {"source": source, "holds": holds, "figure": figure}
            record.write_text(json.dumps(known, indent=2) + "\n")
        failed |= not entry["holds"]
        print(f"{'holds ' if entry['holds'] else 'FAILED'}  {claim.name}: {entry['figure']}", flush=True)
    sys.exit(failed)


def source_digest() -> str:
    """A hash of all Python files and of the build's, so that a change asks for new proof."""
    digest = hashlib.sha256()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in sorted(name.decode() for name in tracked if name.endswith((b".py", b".toml", b"Makefile"))):
        if (ROOT / name).exists():
            digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def _show(claim: Claim, data: Path, out: Path) -> Shown:
    try:
        return claim.show(data, out)
    except Exception as error:  # a claim that breaks has failed, and the others are still to be shown
        traceback.print_exc()
        return Shown(False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
