package hearpack.core.trace

/**
 * Notices audio that is missing: by the clock more frames must have come than did.
 *
 * Reads lag the microphone by a more or less constant number of frames; the two clocks may drift apart by 500 ppm. When the lag has lain above its baseline by
 * more than the system's buffer can hold for [PATIENCE_NS] and more than [PATIENCE] reads, that much was dropped: what
 * was only late would have come by then.
 */
class GapDetector(
    private val rateHz: Int,
    private val bufferFrames: Int,
) {
    private var begin = -1L
    private var frames = 0L
    private var baseline = Long.MAX_VALUE
    private var late = 0
    private var lateSince = 0L
    private var smallest = Long.MAX_VALUE
    private var drifted = 0L // millionths of a frame

    /**
     * @param now when the read returned, nanoseconds.
     * @return frames that are missing, noticed with this read; mostly 0.
     */
    fun read(
        now: Long,
        count: Int,
    ): Int {
        if (begin < 0) begin = now
        frames += count
        val lag = (now - begin) / 1000 * rateHz / 1_000_000 - frames
        baseline = minOf(baseline, lag)
        if (lag - baseline <= bufferFrames) {
            late = 0
            smallest = Long.MAX_VALUE
            drifted += count * DRIFT_PPM
            baseline += drifted / 1_000_000
            drifted %= 1_000_000
            return 0
        }
        smallest = minOf(smallest, lag)
        if (late++ == 0) lateSince = now
        if (late <= PATIENCE || now - lateSince < PATIENCE_NS) return 0
        val missing = smallest - baseline
        baseline = smallest
        late = 0
        smallest = Long.MAX_VALUE
        return missing.toInt()
    }

    private companion object {
        const val DRIFT_PPM = 500L
        const val PATIENCE = 8
        const val PATIENCE_NS = 100_000_000L
    }
}
