"""What happens to flat buffers behind a step, as graphs: sums, loss scaling and clipping, the update, its guard."""
