"""A judge that we start ourselves (`judge.kind: vllm`): vLLM's server, for as long as a run or a command lasts."""
