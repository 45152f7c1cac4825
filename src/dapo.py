"""DAPO on version-migration records (paper eq. 6), with verl's own trainer.

    python src/data_process.py --config-name quickstart/dapo && python src/dapo.py --config-name quickstart/dapo
    python src/dapo.py                                          # configs/dapo.yaml: GPUs, vLLM
    python src/dapo.py --config-name dapo_released trainer.n_gpus_per_node=4 run=released-4
    python src/dapo.py --print-config                           # every key that verl would get, resolved
    python src/dapo.py --check                                  # whether the run could start on this machine

Overrides are Hydra's key=value. The run's folder is runs/RUN; the same command again resumes from its last checkpoint.
`bash scripts/dapo.sh` prepares the data, counts the GPUs and starts this program.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from common.cli import Parser, program
from common.errors import InputError
from common.launch import refuse_launch
from common.run_logs import results


def prepare_reward(config: Any) -> None:
    """Make the environments of the reward `execution`; records without evidence are refused. Raises InputError."""
    from records import load_records
    from verl_training.config import EXECUTION

    if Path(config.reward.custom_reward_function.path) == EXECUTION:
        from evaluation.migration.execution import execution

        execution.prepare(
            config.recode.data, [record.id for record in load_records(config.recode.data, config.recode.bad_rows)]
        )


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--config-name", default="dapo", help="a file of configs/ (default: %(default)s)")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and exit")
    parser.add_argument("--check", action="store_true", help="check the configuration and this machine, and exit")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Hydra overrides")
    args = parser.parse_args()

    from omegaconf import OmegaConf

    from verl_training import checks, machine, start
    from verl_training.config import chat_template, compose, environment, finalise
    from verl_training.resume import last_checkpoint

    started = time.time()
    refuse_launch()
    config = compose(args.config_name, args.overrides)
    checks.check(config)
    if args.print_config:  # the data and the model may be missing
        template = None
        try:
            template = chat_template(config)
        except InputError as error:
            print(f"# actor_rollout_ref.model.custom_chat_template is not known: {error}")
        print(OmegaConf.to_yaml(finalise(config, template), resolve=True))
        return
    checks.check_files(config)
    machine.check(config)
    if args.check:
        return
    os.environ.update(environment(config))  # verl and huggingface_hub read it when they are imported
    if config.trainer.device == "cpu":
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # if it is set and empty, Ray offers no logical GPU either
    final = finalise(config, chat_template(config))
    prepare_reward(final)
    start.prepare(final)
    start.train(final)
    folder = Path(final.trainer.default_local_dir)
    print(f"\ndone: {(time.time() - started) / 60:.1f} minutes in this start\n{results(folder)}")
    if checkpoint := last_checkpoint(folder):
        print(f"  python src/merge_adapter.py --checkpoint {checkpoint} --out {folder}-merged")


if __name__ == "__main__":
    main()
