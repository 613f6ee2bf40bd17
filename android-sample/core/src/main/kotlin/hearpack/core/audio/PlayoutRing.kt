package hearpack.core.audio

import hearpack.core.bundle.StreamException
import java.util.concurrent.atomic.AtomicLong

private const val ONE = 1L shl 32
private const val FILTER_SHIFT = 6
private const val SETTLE_READS = 256
private const val ADJUST_PER_SAMPLE = 8590L // 2 ppm of 2^32
private const val ADJUST_LIMIT = 2_147_483L // 500 ppm of 2^32
private const val LARGEST_CAPACITY = 1 shl 22

/** Where every sample went; all in samples but for [underruns]. */
data class PlayoutCounts(
    val offered: Long,
    val written: Long,
    val dropped: Long,
    val consumed: Long,
    val held: Long,
    val played: Long,
    val silence: Long,
    val underrun: Long,
    val tail: Long,
    val underruns: Long,
)

/**
 * What comes from the enhancer in buffers leaves in the device's blocks, at the device's clock: streaming/core/playout.py to
 * the bit. One thread writes, one reads; no lock, no allocation. Control is integer arithmetic, audio is Double.
 *
 * @param deadbandSamples how far the average level may wander before the reader's speed follows.
 * @param driftCorrection false plays every sample as it is, whatever the level.
 */
class PlayoutRing(
    private val capacitySamples: Int,
    private val prefillSamples: Int,
    private val deadbandSamples: Int,
    private val driftCorrection: Boolean = true,
) {
    private val store = FloatArray(capacitySamples + 4) // the reader's neighbours stay while the writer fills the rest
    private val written = AtomicLong()
    private val index = AtomicLong() // whole part of the reader's place
    private var dropped = 0L

    @Volatile private var ended = false
    private var playing = false
    private var reads = 0
    private var average = 0L
    private var target = 0L
    private var adjust = 0L
    private var fraction = 0L
    private var played = 0L
    private var silence = 0L
    private var underrun = 0L
    private var tail = 0L

    @Volatile private var underruns = 0L

    init {
        require(capacitySamples in 4..LARGEST_CAPACITY) {
            "playout: capacity must be 4 to $LARGEST_CAPACITY samples, got $capacitySamples"
        }
        require(prefillSamples in 0..capacitySamples) {
            "playout: prefill must be 0 to the capacity of $capacitySamples samples, got $prefillSamples"
        }
        require(deadbandSamples >= 0) { "playout: deadband must be at least 0 samples, got $deadbandSamples" }
    }

    /** Samples held. */
    val level: Long get() = written.get() - index.get()

    /** How much faster (positive) or slower than the writer's clock the reader runs, in 2^-32 samples a sample. */
    val adjustment: Long get() = adjust

    /** Where every sample went; exact when both threads rest. */
    fun counts() =
        PlayoutCounts(
            written.get() + dropped,
            written.get(),
            dropped,
            index.get(),
            level,
            played,
            silence,
            underrun,
            tail,
            underruns,
        )

    /** Reads that found too little. */
    val underrunCount: Long get() = underruns

    /** Empty, filling, all counts zero. Neither thread may be at work. */
    fun reset() {
        written.set(0)
        index.set(0)
        dropped = 0
        ended = false
        played = 0
        silence = 0
        underrun = 0
        tail = 0
        underruns = 0
        store.fill(0f)
        fill()
    }

    private fun fill() {
        playing = false
        reads = 0
        average = 0
        target = 0
        adjust = 0
        fraction = 0
    }

    /** Writer: takes in what fits. Returns samples dropped. */
    fun write(
        block: FloatArray,
        offset: Int,
        count: Int,
    ): Int {
        if (ended) throw StreamException("playout: the stream was finished; reset it before the next block")
        val begin = written.get()
        val n = minOf(count.toLong(), capacitySamples - (begin - index.get())).toInt()
        for (i in 0 until n) store[((begin + i) % store.size).toInt()] = block[offset + i]
        written.lazySet(begin + n)
        dropped += count - n
        return count - n
    }

    /** Writer: no more is written; what is held plays to its end, and what follows is tail, not underrun. */
    fun finish() {
        ended = true
    }

    /** Reader: the device's next [frames] samples, into [out]. */
    fun read(
        out: FloatArray,
        frames: Int,
    ) {
        val over = ended // read before the level: nothing is written after it
        val held = level
        out.fill(0f, 0, frames)
        if (!playing) {
            if (held < prefillSamples && !over) {
                silence += frames
                return
            }
            playing = true
            average = held shl 16
        }
        if (driftCorrection) control(held, over)
        val count = playable(frames, held, over)
        if (count > 0) play(out, count, held)
        played += count
        if (count < frames && over) {
            tail += frames - count
        } else if (count < frames) {
            underrun += frames - count
            underruns++
            fill()
        }
    }

    private fun control(
        held: Long,
        over: Boolean,
    ) {
        average += ((held shl 16) - average) shr FILTER_SHIFT
        reads++
        if (reads == SETTLE_READS) target = average
        if (reads <= SETTLE_READS || over) return
        val free = deadbandSamples.toLong() shl 16
        val raw = average - target
        val error = if (raw > 0) maxOf(raw - free, 0L) else minOf(raw + free, 0L)
        adjust = ((error * ADJUST_PER_SAMPLE) shr 16).coerceIn(-ADJUST_LIMIT, ADJUST_LIMIT)
    }

    /** How many of the next outputs the samples held allow. */
    private fun playable(
        frames: Int,
        held: Long,
        over: Boolean,
    ): Int {
        val ahead = if ((fraction != 0L || adjust != 0L) && !over) 2 else 0
        val room = held - 1 - ahead
        if (room < 0) return 0
        return minOf(frames.toLong(), ((room shl 32) + ONE - 1 - fraction) / (ONE + adjust) + 1).toInt()
    }

    private fun play(
        out: FloatArray,
        count: Int,
        held: Long,
    ) {
        val step = ONE + adjust
        val begin = index.get()
        val whole = fraction == 0L && adjust == 0L
        var place = fraction
        for (i in 0 until count) {
            val k = place ushr 32
            out[i] =
                if (whole) {
                    at(begin, k, held).toFloat()
                } else {
                    cubic(
                        at(begin, k - 1, held),
                        at(begin, k, held),
                        at(begin, k + 1, held),
                        at(begin, k + 2, held),
                        (place and (ONE - 1)) / ONE.toDouble(),
                    )
                }
            place += step
        }
        index.lazySet(begin + minOf(place ushr 32, held))
        fraction = place and (ONE - 1)
    }

    private fun cubic(
        ym1: Double,
        y0: Double,
        y1: Double,
        y2: Double,
        t: Double,
    ): Float {
        val c1 = ((y1 - ym1 / 3.0) - y0 / 2.0) - y2 / 6.0
        val c2 = (ym1 + y1) / 2.0 - y0
        val c3 = (y2 - ym1) / 6.0 + (y0 - y1) / 2.0
        return (((c3 * t + c2) * t + c1) * t + y0).toFloat()
    }

    /** The sample at an offset from the reader, from -1 on; zero past what was written and before the first. */
    private fun at(
        begin: Long,
        offset: Long,
        held: Long,
    ): Double =
        if (offset >= held ||
            begin + offset < 0
        ) {
            0.0
        } else {
            store[((begin + offset) % store.size).toInt()].toDouble()
        }
}
