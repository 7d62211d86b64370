"""Judges by name: where their weights are, and the format in which they are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from verifiers.judges.checked import CHECKED
from verifiers.judges.formats import FORMATS
from verifiers.judges.reader import Head

ROLES = ("prm", "value", "orm")
_APACHE, _QWEN, _LLAMA, _SKYWORK, _UNSTATED = "Apache-2.0", "Qwen", "Llama 3.1", "Skywork Community", "not stated"
_EURUS_REFERENCE = "Qwen/Qwen2.5-Math-7B-Instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeEntry:
    """A judge that has a name."""

    name: str
    model: str | None  # an id on the hub, or an embedded name; None: any model that the user names
    role: str  # what it is made for: one of `ROLES`
    format: str  # one of `FORMATS`, or of a judge that writes
    licence: str
    reference: str | None = None  # the second model of formats whose scores are log-ratios
    writes: str = ""  # "module:class" in `verifiers.judges.written`, of judges that write

    @property
    def backends(self) -> tuple[str, ...]:
        """Which backends can serve it."""
        if self.writes:
            return ("transformers", "vllm", "http")
        return (
            ("transformers",) if FORMATS[self.format].read_out.head is Head.TEXT else ("transformers", "vllm", "http")
        )

    @property
    def embedded(self) -> bool:
        """Whether bethink ships it."""
        return self.model == self.name

    @property
    def verified(self) -> bool:
        """Whether its format was checked on its real tokenizer."""
        return self.format in CHECKED and not CHECKED[self.format].inferred


def _read(name: str, model: str, asked: str, licence: str, role: str = "prm", **rest: str) -> JudgeEntry:
    return JudgeEntry(name=name, model=model, role=role, format=asked, licence=licence, **rest)


def _written(name: str, model: str | None, asked: str, writes: str, licence: str, role: str = "prm") -> JudgeEntry:
    return JudgeEntry(name=name, model=model, role=role, format=asked, licence=licence, writes=writes)


_ALL = (
    _read("reference-prm", "reference-prm", "reference-lm", _APACHE),
    _read("reference-value", "reference-value", "reference-lm", _APACHE, "value"),
    _read("qwen2.5-math-prm-7b", "Qwen/Qwen2.5-Math-PRM-7B", "qwen-prm", _QWEN),
    _read("qwen2.5-math-prm-72b", "Qwen/Qwen2.5-Math-PRM-72B", "qwen-prm", _QWEN),
    _read("qwen2.5-math-7b-prm800k", "Qwen/Qwen2.5-Math-7B-PRM800K", "qwen-prm", _APACHE),
    _read("skywork-o1-prm-1.5b", "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "skywork-prm", _SKYWORK),
    _read("skywork-o1-prm-7b", "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B", "skywork-prm", _SKYWORK),
    _read("math-shepherd", "peiyi9979/math-shepherd-mistral-7b-prm", "math-shepherd", _UNSTATED),
    _read("rlhflow-prm-deepseek-8b", "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", "rlhflow-deepseek", _LLAMA),
    _read("rlhflow-prm-mistral-8b", "RLHFlow/Llama3.1-8B-PRM-Mistral-Data", "rlhflow-mistral", _LLAMA),
    _read("er-prm-8b", "HanningZhang/Llama3.1-Math-PRM", "er-prm", _LLAMA),
    _read("eurus-prm-stage1", "PRIME-RL/EurusPRM-Stage1", "eurus-stage1", _APACHE, reference=_EURUS_REFERENCE),
    _read("eurus-prm-stage2", "PRIME-RL/EurusPRM-Stage2", "eurus-stage2", _APACHE, reference=_EURUS_REFERENCE),
    _read("pure-prm-7b", "jinachris/PURE-PRM-7B", "pure", _UNSTATED),
    _read("alphamath-7b", "MARIO-Math-Reasoning/AlaphaMath-7B", "alphamath-value", _UNSTATED, "value"),
    _read("skywork-reward-v2-8b", "Skywork/Skywork-Reward-V2-Llama-3.1-8B", "chat-reward", _LLAMA, "orm"),
    _read("skywork-reward-v2-qwen3-0.6b", "Skywork/Skywork-Reward-V2-Qwen3-0.6B", "chat-reward", _APACHE, "orm"),
    _read("skywork-reward-v2-qwen3-8b", "Skywork/Skywork-Reward-V2-Qwen3-8B", "chat-reward", _APACHE, "orm"),
    _read("qwen2.5-math-rm-72b", "Qwen/Qwen2.5-Math-RM-72B", "qwen-rm", _QWEN, "orm"),
    _written("think-prm-1.5b", "launch/ThinkPRM-1.5B", "think-prm", "think_prm:ThinkPRM", _APACHE),
    _written("think-prm-7b", "launch/ThinkPRM-7B", "think-prm", "think_prm:ThinkPRM", _APACHE),
    _written("think-prm-14b", "launch/ThinkPRM-14B", "think-prm", "think_prm:ThinkPRM", _APACHE),
    _written("gen-prm-1.5b", "GenPRM/GenPRM-1.5B", "gen-prm", "gen_prm:GenPRM", _UNSTATED),
    _written("gen-prm-7b", "GenPRM/GenPRM-7B", "gen-prm", "gen_prm:GenPRM", _UNSTATED),
    _written("gen-prm-32b", "GenPRM/GenPRM-32B", "gen-prm", "gen_prm:GenPRM", _UNSTATED),
    _written("llm-judge", None, "llm-judge", "llm_judge:LLMJudge", "the model's"),
    _written("branch-and-rethink", None, "branch-and-rethink", "rethink:BranchAndRethink", "the model's", "orm"),
    _written("self-evaluation", None, "self-evaluation", "self_eval:SelfEvaluation", "the model's", "value"),
)

JUDGES: Mapping[str, JudgeEntry] = MappingProxyType({entry.name: entry for entry in _ALL})

ROLE_OF_FORMAT: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(FORMATS, "prm")
    | {"reference-value": "value", "alphamath-value": "value", "chat-reward": "orm", "qwen-rm": "orm"}
)
"""What a model of a format is made for."""
