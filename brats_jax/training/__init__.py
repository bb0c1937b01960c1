"""Training of one stage: the loop, its compiled steps, batches, validation and checkpoints;
and the transfer of an encoder into a new network."""
