"""What each kind of engine can do, known without opening one."""

from collections.abc import Mapping

from decoding.engine import Capability

CAPABILITIES: Mapping[str, frozenset[Capability]] = {
    "vllm": frozenset(Capability) - {Capability.SAMPLING_LOGPROBS},
    "transformers": frozenset(Capability) - {Capability.PREFIX_CACHE},
    # Of servers that complete token ids. Others lack what `decoding.engines.openai.open` finds that they lack.
    "openai": frozenset(Capability) - {Capability.SAMPLING_LOGPROBS},
    # The most that it can have: an open one has what the recorded engine had.
    "replay": frozenset(Capability),
    "scripted": frozenset(Capability) - {Capability.PREFIX_CACHE},
}
