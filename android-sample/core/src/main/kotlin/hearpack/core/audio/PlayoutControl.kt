package hearpack.core.audio

import kotlin.math.abs

internal const val ONE = 1L shl 32
private const val ADJUST_LIMIT = 4_294_967L // 1000 ppm of 2^32
private const val FIRST_LIMIT = 2_147_483L // 500 ppm
private const val RECOVERY_S = 4

/**
 * How fast a playout ring's reader runs and what it cuts out, by the levels that writes find: `Control` of
 * streaming/core/playout.py to the bit. All of it is the writer's, which learns from the reader's counts when to begin anew.
 *
 * @param prefill, deadband, tolerance as in [PlayoutRing], in samples.
 */
internal class PlayoutControl(
    private val rateHz: Int,
    private val prefill: Int,
    deadband: Int,
    private val tolerance: Int,
    private val driftCorrection: Boolean,
) {
    private val free = deadband.toLong() shl 16
    private val shift = 31 - Integer.numberOfLeadingZeros(rateHz)
    private val gain = ONE / 4 / rateHz
    private val most = (rateHz shr 2).toLong() shl 16
    private var unlike = false
    private var known = false // whether there is a usual level
    private var usual = 0L
    private var integral = 0L
    private var played = 0L
    private var short = -1 // the first begin is none too soon
    private var settled = false // whether there is a target
    private var target = 0L
    private var average = 0L
    private var sinceTarget = 0L
    private var sum = 0L
    private var seen = 0L
    private var seconds = 0
    private var lowest = 0L

    /** What a step is more than 1, in 2^-32 samples. */
    var adjust = 0L
        private set

    /** The same while all begins anew. */
    val rest: Long get() = integral shr 16

    /** Samples to be cut out. */
    var cut = 0L
        private set

    /** Nothing is known. */
    fun reset() {
        unlike = false
        known = false
        integral = 0
        played = 0
        short = -1
        restart()
    }

    /** Playing begins. */
    fun begin() {
        short = if (played < RECOVERY_S.toLong() * rateHz) short + 1 else 0
        if (short == 2) {
            short = 0
            known = false
        }
        played = 0
        restart()
    }

    /** The level is another. */
    fun restart() {
        settled = false
        average = 0
        sinceTarget = 0
        sum = 0
        seen = 0
        seconds = 0
        lowest = 0
        cut = 0
        adjust = integral shr 16
    }

    /** [count] samples were written, and this is the level; a read takes [frames]. */
    fun write(
        count: Int,
        level: Long,
        frames: Int,
    ) {
        lowest = if (seen == 0L) level else minOf(lowest, level)
        sum += level * count
        seen += count
        played += count
        if (settled && driftCorrection) follow(count, level)
        if (seen >= rateHz) look(frames)
    }

    private fun look(frames: Int) {
        val mean = sum / seen
        seconds++
        if (!settled) {
            settled = true
            average = mean shl 16
            target = average
        }
        if (!known && seconds == 2) {
            val low = (prefill - tolerance).toLong()
            usual = mean - lowest + lowest.coerceIn(low, prefill.toLong() + tolerance + frames)
            known = true
        } else if (known && cut == 0L) {
            val above = mean - usual
            if (above > if (seconds <= RECOVERY_S) tolerance / 2 else 2 * tolerance) cut = above
        }
        sum = 0
        seen = 0
    }

    private fun follow(
        count: Int,
        level: Long,
    ) {
        val step = ((level shl 16) - average).coerceIn(-most, most)
        average += (step * minOf(count, 1 shl shift)) shr shift
        sinceTarget += count
        val raw = average - target
        if (!unlike) {
            if (abs(raw) <= free) return
            unlike = true
            val first = minOf((abs(raw) shl 16) / sinceTarget, FIRST_LIMIT) shl 16
            integral = if (raw > 0) first else -first
        }
        val error = raw.coerceIn(-most, most)
        val limit = ADJUST_LIMIT shl 16
        integral = (integral + ((error * count) shr (2 * shift - 21))).coerceIn(-limit, limit)
        adjust = ((integral shr 16) + ((error * gain) shr 16)).coerceIn(-ADJUST_LIMIT, ADJUST_LIMIT)
    }
}
