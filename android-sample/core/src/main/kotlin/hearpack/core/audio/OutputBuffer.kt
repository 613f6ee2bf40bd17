package hearpack.core.audio

/**
 * How much of a speaker's buffer is used: two bursts to begin with, one more for each time it ran dry.
 *
 * @param burst frames that the speaker takes at a time.
 * @param capacity frames the buffer has at most.
 */
class OutputBuffer(
    private val burst: Int,
    private val capacity: Int,
) {
    private var seen = 0

    /** Frames to use. */
    var frames = minOf(capacity, 2 * burst)
        private set

    /** The system has counted [underruns] so far. Returns whether [frames] became more. */
    fun ranDry(underruns: Int): Boolean {
        val more = underruns - seen
        seen = maxOf(seen, underruns)
        if (more <= 0 || frames == capacity) return false
        frames = minOf(capacity, frames + burst)
        return true
    }
}
