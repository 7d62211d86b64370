"""Tokens in, tokens out: engines, decoders and the types that pass through them."""
