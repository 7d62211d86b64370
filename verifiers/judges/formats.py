"""The formats of the families of reward models that people use, by name.

Each was written down from its authors' model card or code, which `PRMFormat.source` names; `catalogue.CHECKED` says
which were computed with the real tokenizer.
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from decoding.errors import ConfigError
from verifiers.judges.format import PRMFormat
from verifiers.judges.openings import Chat, Plain
from verifiers.judges.readouts import LeastLikely, LogRatio, Scalar, TokenPair, TwoClasses
from verifiers.judges.splits import AtDelimiter, AtEndings, AtHeadings, Undivided
from verifiers.judges.templates import Answer, Pieces, Tagged, Turns
from verifiers.judges.types import ScoreKind

_REFERENCE = Pieces(opening=Plain(text="{question}\n", strip="\n"), mark="\n", single=True)
_PARAGRAPHS = AtDelimiter("\n\n")
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_INSTRUCTION = (
    "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response: Let's think step by step\n"
)

_TRL_PIECES = Pieces(opening=Plain(), mark="\n")
_TRL = PRMFormat(
    name="trl",
    split=AtDelimiter("\n"),
    template=_TRL_PIECES,
    read_out=TwoClasses(),
    source="huggingface/trl, trl/experimental/prm/prm_trainer.py, PRMTrainer.tokenize_row",
)
_RLHFLOW = PRMFormat(
    name="rlhflow-deepseek",
    split=_PARAGRAPHS,
    template=Turns(),
    read_out=TokenPair(),
    aggregate="mean",
    source="RLHFlow/RLHF-Reward-Modeling, math-rm/prm_evaluate.py",
)
_EURUS = PRMFormat(
    name="eurus-stage2",
    split=AtHeadings(),
    template=Answer(opening=Chat(), numbered=True, whole_turn=False),
    read_out=LogRatio(beta=0.001),
    source="PRIME-RL/ImplicitPRM, eval/prm_eval_utils.py, and the model card of PRIME-RL/EurusPRM-Stage2",
)

_ALL = (
    PRMFormat(
        name="reference-prm",
        split=AtDelimiter("\n"),
        template=_REFERENCE,
        read_out=TokenPair(right="<yes>", wrong="<no>"),
        aggregate="min",
        source="bethink train prm",
    ),
    PRMFormat(
        name="reference-value",
        split=AtDelimiter("\n"),
        template=_REFERENCE,
        read_out=Scalar(kind=ScoreKind.PROBABILITY),
        source="bethink train value",
    ),
    PRMFormat(
        name="reference-lm",
        split=AtDelimiter("\n"),
        template=replace(_REFERENCE, end="<eos>"),
        read_out=LeastLikely(),
        source="bethink train prm --train likelihood",
    ),
    PRMFormat(
        name="qwen-prm",
        split=_PARAGRAPHS,
        template=Pieces(opening=Chat(system=_BOXED), mark="<extra_0>", single=True),
        read_out=TwoClasses(),
        source="model card of Qwen/Qwen2.5-Math-PRM-7B",
    ),
    PRMFormat(
        name="skywork-prm",
        split=AtDelimiter("\n"),
        template=Pieces(opening=Plain(text="{question}\n"), mark="\n", single=True),
        read_out=Scalar(kind=ScoreKind.PROBABILITY),
        aggregate="mean",
        source="SkyworkAI/skywork-o1-prm-inference, model_utils/io_utils.py",
    ),
    PRMFormat(
        name="math-shepherd",
        split=AtHeadings(),
        template=Tagged(opening=Plain(text="{question} "), tag="ки"),
        read_out=TokenPair(),
        aggregate="min",
        source="model card of peiyi9979/math-shepherd-mistral-7b-prm; huggingface/search-and-learn, reward_models.py",
    ),
    PRMFormat(
        name="er-prm",
        split=AtHeadings(),
        template=Tagged(opening=Plain(text="{question} "), tag="ки"),
        read_out=TokenPair(right=" +", wrong=" -"),
        aggregate="min",
        source="openreasoner/openr's rm_call.py and infer_fns.py, for HanningZhang/Llama3.1-Math-PRM",
    ),
    _RLHFLOW,
    replace(_RLHFLOW, name="rlhflow-mistral", split=AtDelimiter("ки\n")),
    replace(_EURUS, name="eurus-stage1", aggregate="min"),
    _EURUS,
    PRMFormat(
        name="pqm",
        split=AtHeadings(),
        template=Tagged(opening=Plain(text=_INSTRUCTION, bos=False), tag="[PRM]"),
        read_out=Scalar(),
        aggregate="min",
        source="WindyLee0822/Process_Q_Model, bon_eval_hf.py",
    ),
    PRMFormat(
        name="pure",
        split=_PARAGRAPHS,
        template=_TRL_PIECES,
        read_out=TwoClasses(difference=True),
        aggregate="min",
        source="model card of jinachris/PURE-PRM-7B; CJReinforce/PURE, experience_maker.py",
    ),
    PRMFormat(
        name="alphamath-value",
        split=AtEndings("</step>"),
        template=Pieces(opening=Plain(text="<question> {question} </question>\n"), step="{step}\n", mark=""),
        read_out=Scalar(kind=ScoreKind.VALUE),
        source="MARIO-Math-Reasoning/Super_MARIO, implementation_details.md and mcts_math/prompts/prompt_sft.py",
    ),
    _TRL,
    PRMFormat(
        name="chat-reward",
        split=Undivided(),
        template=Answer(opening=Chat()),
        read_out=Scalar(),
        source="model card of Skywork/Skywork-Reward-V2-Llama-3.1-8B",
    ),
    PRMFormat(
        name="qwen-rm",
        split=Undivided(),
        template=Answer(opening=Chat(system=_BOXED)),
        read_out=Scalar(),
        source="model card of Qwen/Qwen2.5-Math-RM-72B",
    ),
)

FORMATS: Mapping[str, PRMFormat] = MappingProxyType({entry.name: entry for entry in _ALL})


def format_by_name(name: str, *, separator: str | None = None) -> PRMFormat:
    r"""A format.

    Args:
        name: One of `FORMATS`.
        separator: What ends a step, for models that TRL trained with another ``step_separator`` than ``"\n"``.

    Raises ``ConfigError`` with the names that come close, or if the format has a mark of its own.
    """
    if name not in FORMATS:
        close = difflib.get_close_matches(name, FORMATS, n=3, cutoff=0.5)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise ConfigError(f"there is no judge format {name!r}{meant}: there are {', '.join(FORMATS)}")
    found = FORMATS[name]
    if separator is None:
        return found
    if name != "trl":
        raise ConfigError(f"the format {name!r} has a separator of its own: leave separator={separator!r} out")
    return replace(found, split=AtDelimiter(separator), template=replace(_TRL_PIECES, mark=separator))
