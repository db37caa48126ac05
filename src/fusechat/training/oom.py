"""Out of memory: telling it from other errors, and what to say where no smaller step helps."""

from __future__ import annotations

from fusechat.errors import TrainingError

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device, or this machine, has no room left."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _WORDS)


def free_cached_memory() -> None:
    """Hand back what torch keeps of an accelerator's memory without using it."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def no_room_for_one_row(tokens: int, said: str) -> TrainingError:
    """The error of a step that does not fit with even one row at a time."""
    return TrainingError(
        f"out of memory with one row of {tokens} tokens at a time: {said.splitlines()[0]}. "
        "Set gradient_checkpointing: true; train with lora; in the cluster file set sharding: "
        "fsdp2 over more ranks, or a device with more memory; or lower max_length. No weights "
        "were changed, and a new run goes on from the newest checkpoint."
    )


def no_room_beside_others(budget: int, said: str) -> TrainingError:
    """The error of a rank that cannot go back, since others wait for it within the step."""
    return TrainingError(
        f"out of memory with {budget} tokens at a time, and sharded ranks cannot do a step again: "
        f"{said.splitlines()[0]}. Set micro_batch_tokens: {budget // 2} in the cluster file, or "
        "gradient_checkpointing: true, and run again: it goes on from the newest checkpoint."
    )
