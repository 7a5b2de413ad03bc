"""The rows of a user's data set, from whatever file holds them: the one way in, for all commands.

What this program wrote itself (scored answers, prepared prompts) is JSON lines: `longreward.files.jsonlines`."""

from longreward.rows.identity import row_id
from longreward.rows.reading import exists, read, read_with_offsets

__all__ = ["exists", "read", "read_with_offsets", "row_id"]
