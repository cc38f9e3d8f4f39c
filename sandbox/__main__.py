"""``python -m sandbox build | doctor``: make the image, or prove the walls."""

from __future__ import annotations

import argparse
import sys

from sandbox.doctor import doctor
from sandbox.errors import SandboxError
from sandbox.opening import ENGINES, ensure_image


def main() -> int:
    """Run one verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("verb", choices=("build", "doctor"))
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--isolation", default=None, help="container+ns, container or ns")
    options = parser.parse_args()
    try:
        if options.verb == "build":
            print(ensure_image(options.engine, options.isolation))
            return 0
        proofs = doctor(options.engine, options.isolation)
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for proof in proofs:
        print(f"{'ok  ' if proof.ok else 'FAIL'}  {proof.name}: {proof.detail}")
        if proof.mend:
            print(f"      {proof.mend}")
    return 0 if all(proof.ok for proof in proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
