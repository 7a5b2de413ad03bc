"""What chat templates and tokenizers take for control tokens, as regex: shapes and, by family, names.

All is in lower case. To add a family: look in its tokenizer_config.json for `added_tokens_decoder` and in its
chat_template for what it writes around a turn. What has a shape below needs no line. The sources named are repositories
of the Hugging Face hub.
"""

from __future__ import annotations

from itertools import groupby

_NAMES = (
    # Llama 2, Mistral, Gemma, T5 and most sentencepiece models.
    *("s", "bos", "eos", "unk", "pad", "sep", "cls", "mask", "sys"),
    # ChatGLM (zai-org/glm-4-9b-chat), InternLM (internlm/internlm-chat-7b), Yuan, GPT-NeoX.
    *("eop", "sop", "sot", "eo[achdtum]"),
    # Gemma 2 and 3 (google/gemma-3-27b-it), GLM-4.5V, SmolVLM.
    *(r"start_of_\w++", r"end_of_\w++", r"begin_of_\w++", r"beginning_of_\w++", "image_soft_token", "audio_soft_token"),
    # FunctionGemma (google/functiongemma-270m-it).
    *(r"start_function_\w++", r"end_function_\w++"),
    # Qwen 2.5 and 3, Hermes (NousResearch/Hermes-3-Llama-3.1-8B), Granite, GLM, Nemotron.
    *("tools?(?:_?(?:calls?|responses?|results?|list|sep|declare))?", "available_tools", "functions?"),
    *("function_calls?", r"function=[^<>‹\s]{1,60}+", r"parameter=[^<>‹\s]{1,60}+", "arg_key", "arg_value"),
    # Seed (ByteDance-Seed/Seed-OSS-36B-Instruct), MiniMax (MiniMaxAI/MiniMax-M2), LongCat (meituan-longcat).
    *(r"seed:\w++", r"minimax:\w++", r"mm:\w++", r"longcat_\w++"),
    # Nemotron (nvidia/Nemotron-4-340B-Instruct, nvidia/NVIDIA-Nemotron-Nano-9B-v2).
    *(r"extra_id_\d+", r"special_\d+"),
    # Ling and Ring (inclusionAI/Ling-mini-2.0).
    *("role(?:_end)?", "function-name", "args-json-object"),
    # Command R (CohereForAI/c4ai-command-r-v01).
    *("bos_token", "eos_token", "eop_token", "pad_token", "unk_token", "mask_token", "cls_token", "sep_token"),
    # Baichuan 2, Gemma, InternLM, ERNIE 4.5: places kept for tokens to come.
    *(r"reserved(?:_special_token)?_\d+", r"unused_?\d+", r"tokens_unused_\d+", r"mask:\d+", r"sentinel:\d+"),
    # StarCoder, Granite, MiniMax.
    *("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "file_sep"),
    # Qwen 3 Omni; Kimi (moonshotai/Kimi-K2-Instruct).
    *(r"tts_\w++", "osagent_mode"),
    # Marks around thoughts besides <think>.
    *("thoughts?", "think_on", "think_off", "reasoning"),
    # MiniCPM (openbmb/MiniCPM-2B-sft-bf16).
    *("用户", "ai"),
)
# By first letter, so that nearly every other tag is known to be none of them at once.
_NAME = "|".join(
    f"{first}(?:{'|'.join(name[1:] for name in names)})"
    for first, names in groupby(sorted(_NAMES), key=lambda name: name[0])
)
AFTER_LESS_THAN = (
    # <|im_end|> and all of its kind, <｜User｜> too; <|turn> and <turn|> of Gemma 4 (google/gemma-4-31B-it), <|"|>.
    r"\|\s*+[^\s|<>‹]{1,60}+(?:\s*\|\s*)?>|[\w/][^\s|<>‹]{0,60}+\|>"
    # MiniMax: ]<]image[>[, from its second character on.
    r"|\][\w ]{1,40}+\[>\["
    rf"|/(?:{_NAME})>|(?:{_NAME})>"
)
"""What makes a `<` before it a control token."""

AFTER_BRACKET = (
    # EXAONE (LGAI-EXAONE/EXAONE-4.0-32B): [|endofturn|].
    r"\|[\w/]{2,40}+\|\]"
    # MiniMax: [e~[.
    r"|\w~\["
    # Llama 2, Mistral (mistralai/Mistral-Small-3.2-24B-Instruct-2506), GLM, Kimi, PanGu.
    r"|/?(?:inst|[gs]mask|system_prompt|available_tools|tool_(?:calls|results|content)|model_settings"
    r"|unused_?\d+|(?:start|end)_header_id)\]"
    # Mistral (mistralai/Magistral-Small-2509, Voxtral, Pixtral), Kimi, BERT.
    r"|/?(?P<capitals>think|args|call_id|img(?:_break|_end)?|(?:begin_)?audio|transcribe|[be]os|eot|cls|sep|pad|unk|mask)\]"
)
"""What makes a `[` before it a control token; `capitals` does so in capital letters only, being a word otherwise."""

AFTER_CLOSING_BRACKET = r"~!?\w[\[\]]|!\w~\["
"""What makes a `]` before it a control token: MiniMax's ]~b], ]~!b[ and ]!p~[."""
