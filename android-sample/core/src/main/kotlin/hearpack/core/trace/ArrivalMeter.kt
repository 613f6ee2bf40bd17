package hearpack.core.trace

import kotlin.math.sqrt

private const val NANOS = 1_000_000_000L
private const val LOOKED_AT = 64

/**
 * How the frames of a route come: at once, and how unevenly. Belongs to the capture thread; the figures may be read by any.
 *
 * A lump is what successive reads bring that each come sooner after the one before than half the time their frames take:
 * however small the reads are, the system hands over that much at a time.
 */
class ArrivalMeter(
    private val rateHz: Int,
) {
    private val lumps = IntArray(LOOKED_AT)
    private var reads = 0
    private var lump = 0
    private var last = Long.MIN_VALUE
    private var begin = 0L
    private var frames = 0L
    private var lateness = 0.0 // of the lump that is coming, ns
    private var count = 0
    private var sum = 0.0
    private var squares = 0.0
    private var earliest = Double.MAX_VALUE

    /** Frames of the largest lump of the last 64 reads; 0 before the first. */
    @Volatile var lumpFrames = 0
        private set

    /** Root mean square of how much later than the earliest the lumps came, ns; 0 before the third. */
    @Volatile var jitterNanos = 0L
        private set

    /** A read of [n] frames returned at [now], ns. */
    fun came(
        now: Long,
        n: Int,
    ) {
        if (n <= 0) return
        val together = last != Long.MIN_VALUE && (now - last) * 2 < n * NANOS / rateHz
        if (!together) {
            if (last == Long.MIN_VALUE) begin = now else lumpIsOver()
            lump = 0
        }
        last = now
        lump += n
        frames += n
        lateness = (now - begin) - frames * (1e9 / rateHz)
        lumps[reads++ % LOOKED_AT] = lump
        var largest = 0
        for (i in 0 until minOf(reads, LOOKED_AT)) largest = maxOf(largest, lumps[i])
        lumpFrames = largest
    }

    private fun lumpIsOver() {
        count++
        sum += lateness
        squares += lateness * lateness
        earliest = minOf(earliest, lateness)
        if (count < 3) return
        val mean = sum / count
        jitterNanos = sqrt(maxOf(0.0, squares / count - 2 * earliest * mean + earliest * earliest)).toLong()
    }
}
