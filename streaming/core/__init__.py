"""What Kotlin and Swift port, to the bit: resampler, DSP, ring, loop, decisions, playout. numpy only, no files."""
