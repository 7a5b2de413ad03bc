"""Render documents and questions into the prompt files OpenRLHF reads.

    python rl/prepare_data.py IN.jsonl OUT.jsonl --model PATH --max-prompt-tokens 63488 [--split heldout] [--criteria]

Rows of IN are the published data's: idx (or id), context, query. `rl/train.py` does this by itself for data.train and
data.heldout; the command is for looking at the result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longreward.errors import LongRewardError
from longreward.redaction import keep_environment
from rl.data.prompt_files import load_tokenizer, prepare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, help="whose tokenizer and chat template")
    parser.add_argument("--max-prompt-tokens", type=int, required=True)
    parser.add_argument("--split", choices=["train", "heldout"], default="train")
    has = "each row has criteria, which the labels are to hold (docs/rewards.md)"
    parser.add_argument("--criteria", action="store_true", help=has)
    trusts = "run the Python code that the model brings along, if it does; it sees your keys"
    parser.add_argument("--trust-remote-code", action="store_true", help=trusts)
    options = parser.parse_args()
    keep_environment()
    try:
        tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
        budget, criteria = options.max_prompt_tokens, options.criteria
        report = prepare(options.source, options.out, tokenizer, budget, options.split, criteria=criteria)
    except LongRewardError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {report.sentence()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
