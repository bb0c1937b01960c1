"""Training of one stage: steps, batches, validation, checkpoints and the transfer of an encoder."""
