"""What each kind of engine can do, known without opening one."""

from collections.abc import Mapping

from decoding.engine import Capability

CAPABILITIES: Mapping[str, frozenset[Capability]] = {
    "vllm": frozenset(Capability) - {Capability.SAMPLING_LOGPROBS},
    "transformers": frozenset(Capability) - {Capability.PREFIX_CACHE},
    "scripted": frozenset(Capability) - {Capability.PREFIX_CACHE},
}
