"""Abilities of this machine's processor."""

__all__ = ["cpu_has_bf16"]


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX)."""
    from llvmlite.binding import get_host_cpu_features  # a part of numba

    features = get_host_cpu_features()
    return bool(features.get("avx512bf16") or features.get("amx-bf16"))
