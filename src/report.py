"""Show what runs did: one HTML page with their settings, curves, results and samples.

    python src/report.py runs/quickstart                          # every run and evaluation in the folder
    python src/report.py runs/grpo runs/dapo --out compare.html   # curves of both on one axis
    python src/report.py runs/eval/base/arena runs/eval/grpo/arena    # before and after, record by record

RUN is the folder of a training run (src/sft.py, grpo.py, dapo.py), of an evaluation (src/score.py), or one that holds
such folders. Evaluations of the same problems are compared with the one before them. The page is one file: it opens
from disk and requests nothing. If not all samples fit, it states which ones it has. Records are read from the data
files that the runs name; nothing is downloaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common.cli import Parser, in_range, one_line, program
from common.files import require_writable, write_text
from common.ranges import BELOW_ONE


@program()
def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs and evaluations")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="default: %(default)s")
    weight = in_range(float, BELOW_ONE)
    parser.add_argument("--ema", type=weight, default=0.9, help="weight of the moving average (default: %(default)s)")
    args = parser.parse_args()
    require_writable(args.out)
    os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported

    from run_page.find import find, find_curves
    from run_page.page import render

    places = find(args.runs)
    text = render(places, find_curves(args.runs), ", ".join(map(one_line, args.runs)), args.ema)
    write_text(args.out, text)
    print(f"wrote {one_line(args.out)} ({len(text.encode('utf-8', 'backslashreplace')) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
