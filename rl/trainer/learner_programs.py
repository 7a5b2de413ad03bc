"""OpenRLHF's train_dpo and train_sft: what a run sets for them, and their command line from a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from longreward.errors import ConfigError
from longreward.preflight.finding import Finding
from rl.trainer.openrlhf_flags import OWNED_BY_EVERY_RUN, Flags, LearnerFlags, parse_learner, refuse_owned, to_argv


@dataclass(frozen=True)
class Program:
    """One of OpenRLHF's programs that is not a Ray job."""

    module: str
    section: str
    """Where the configuration has its flags."""
    defaults: Mapping[str, Any]
    """Our defaults, where they differ from OpenRLHF's."""
    owned: Mapping[str, str]
    """Flags that the run sets itself, and what to set instead."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Flags that are the same in every run."""


DPO = Program(
    module="openrlhf.cli.train_dpo",
    section="train_dpo",
    # The paper's (section 4.1); a checkpoint now and then, OpenRLHF's own is never.
    defaults={
        "model.beta": 0.15,
        "model.nll_loss_coef": 0.1,
        "adam.lr": 1e-6,
        "train.batch_size": 16,
        "train.micro_batch_size": 1,
        "ckpt.save_steps": 50,
    },
    owned=OWNED_BY_EVERY_RUN
    | {
        "model.model_name_or_path": "set openrlhf.actor.model_name_or_path",
        "data.dataset": "the pairs are made from data.train",
        "data.prompt_key": "the pairs are made from data.train",
        "data.chosen_key": "the pairs are made from data.train",
        "data.rejected_key": "the pairs are made from data.train",
        "data.max_len": "set openrlhf.data.max_len",
    },
    fixed={"data.prompt_key": "prompt", "data.chosen_key": "chosen", "data.rejected_key": "rejected"},
)
# Examples are rendered before: OpenRLHF only puts their pieces together, to find the assistant's among them. It saves
# this with the tokenizer, and a run puts the right one in its place; in a checkpoint it must not be taken for it.
_PIECES = (
    "{% for piece in messages %}"
    "{% if piece['role'] not in ('prompt', 'assistant') %}"
    "{{ raise_exception('this tokenizer is of the midst of a training; take that of the model it began with') }}"
    "{% endif %}{{ piece['content'] }}{% endfor %}"
)
SFT = Program(
    module="openrlhf.cli.train_sft",
    section="train_sft",
    defaults={"adam.lr": 1e-5, "train.batch_size": 8, "train.micro_batch_size": 1, "ckpt.save_steps": 50},
    owned=OWNED_BY_EVERY_RUN
    | {
        "model.model_name_or_path": "set openrlhf.actor.model_name_or_path",
        "data.max_len": "set openrlhf.data.max_len",
        "data.dataset": "set data.train",
        "data.input_key": "prompts are prepared from data.train",
        "data.output_key": "prompts are prepared from data.train",
        "data.multiturn": "put conversations into data.train or data.conversations",
        "data.tokenizer_chat_template": "set data.chat_template",
    },
    # Of several turns each of the assistant's is learned.
    fixed={
        "data.input_key": "pieces",
        "data.multiturn": True,
        "data.apply_chat_template": True,
        "data.tokenizer_chat_template": _PIECES,
    },
)


@dataclass(frozen=True)
class Learners:
    """A program as one run starts it on this machine."""

    program: Program
    argv: list[str]
    """The program's arguments."""
    flags: LearnerFlags
    deciding: Mapping[str, Any]
    """By OpenRLHF's names, the flags that the trained weights depend on."""
    count: int
    """Processes, one for each GPU; 0 where no GPU is visible."""

    @property
    def examples_at_once(self) -> int:
        """Examples in one forward pass of all learners together."""
        return self.flags.train_micro_batch_size * (self.count // self.flags.gpus_per_answer)

    def findings(self) -> Iterator[Finding]:
        """Numbers of steps that cannot be, and how batches are divided among the learners, where their number is
        known."""
        flags, section, count = self.flags, self.program.section, self.count
        yield from flags.never_zero(section)
        together = flags.gpus_per_answer
        if not count:
            return
        if count % together:
            sentence = (
                f"{count} learners cannot be divided into groups of {together} ({section}.ds.ring_attn_size x "
                "ds.tensor_parallel_size)"
            )
            yield Finding.problem("batches", sentence, "set processes to a multiple of it")
        elif flags.train_batch_size % self.examples_at_once:
            of = f", {together} of which work on one example" if together > 1 else ""
            sentence = (
                f"{section}.train.batch_size={flags.train_batch_size} is not a multiple of train.micro_batch_size="
                f"{flags.train_micro_batch_size} x {count} learners{of}, so DeepSpeed would refuse it"
            )
            yield Finding.problem("batches", sentence, "change one of them, or processes")
        else:
            sentence = f"{count} learner{'s' * (count > 1)}, steps of {flags.train_batch_size} examples"
            yield Finding.ok("batches", sentence)


def learners(
    program: Program, section: Mapping[str, Any], owned: Mapping[str, Any], policy: Flags, device: str, count: int
) -> Learners:
    """The program as it is started: `section` is the configuration's, flat, `owned` what the run sets itself.

    ConfigError for an unknown flag, one that the run owns, or a value that cannot work.
    """
    refuse_owned(program.section, section, program.owned)
    machine = {"ds.attn_implementation": "sdpa"} if device == "cpu" else {}
    # Examples are made to fit data.max_len; train_dpo's own default is another.
    model = {"model.model_name_or_path": policy.policy, "data.max_len": policy.data_max_len}
    words = to_argv(
        {**program.defaults, **machine, **section, **program.fixed, **model, **owned}, program.module, program.section
    )
    found, deciding = parse_learner(words, program.module, program.section, device)
    if found.ds_ring_attn_size > 1 and not found.ds_packing_samples:
        raise ConfigError(f"{program.section}.ds.ring_attn_size needs {program.section}.ds.packing_samples=true")
    return Learners(program, words, found, deciding, count)
