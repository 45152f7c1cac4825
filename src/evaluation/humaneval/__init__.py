"""HumanEval+ and MBPP+, judged by evalplus."""
