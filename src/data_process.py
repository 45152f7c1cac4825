"""Write verl's parquet files from records, with the same prompts that src/grpo.py trains on.

    python src/data_process.py                                  # the files that configs/dapo.yaml names
    python src/data_process.py --config-name quickstart/dapo    # another configuration
    python src/data_process.py recode.data=my.jsonl run=mine    # Hydra overrides, as for src/dapo.py

Rows with errors (src/records.py; for example a reference answer below the maximal reward) are listed one a line, and
nothing is written; `recode.bad_rows=drop` leaves them out, `keep` keeps those that have a prompt and a target.
`bash scripts/dapo.sh` runs it with --if-stale.
"""

from __future__ import annotations

from common.cli import Parser, program


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--config-name", default="dapo", help="a file of configs/ (default: %(default)s)")
    parser.add_argument("--if-stale", action="store_true", help="do nothing if the files are up to date")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Hydra overrides")
    args = parser.parse_args()

    from verl_training.checks import check, check_files
    from verl_training.config import compose
    from verl_training.parquet import DataFiles

    config = compose(args.config_name, args.overrides)
    check(config)
    check_files(config)
    data = DataFiles(config)
    if args.if_stale:
        why = data.stale()
        if why is None:
            print(f"data: {data.files['train']} is up to date")
            return
        print(f"data: {why}; writing the files")
    data.make()


if __name__ == "__main__":
    main()
