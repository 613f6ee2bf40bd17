package hearpack.core.audio

import hearpack.core.bundle.StreamException
import java.util.concurrent.atomic.AtomicLong

private const val NANOS = 1_000_000_000L
private const val LARGEST_CAPACITY = 1 shl 22

/** Where every sample went; all in samples but for [underruns]. */
data class PlayoutCounts(
    val offered: Long,
    val written: Long,
    val dropped: Long,
    val consumed: Long,
    val held: Long,
    val trimmed: Long,
    val played: Long,
    val silence: Long,
    val underrun: Long,
    val tail: Long,
    val underruns: Long,
)

/**
 * What comes from the enhancer in buffers leaves in the device's blocks, at the device's clock: streaming/core/playout.py to
 * the bit, recovery from hiccups and drift correction included. One thread writes, one reads; no lock, no allocation.
 * Times are ns of one clock.
 *
 * @param deadbandSamples how far the average level may wander before the reader's speed follows; see [deadbandAtDevice].
 * @param toleranceSamples how far a level may lie above the usual one; what a buffer of the model gives.
 * @param rateHz the device's rate.
 * @param driftCorrection false plays every sample as it is, whatever the level.
 */
class PlayoutRing(
    private val capacitySamples: Int,
    private val prefillSamples: Int,
    deadbandSamples: Int,
    toleranceSamples: Int,
    private val rateHz: Int,
    driftCorrection: Boolean = true,
) {
    private val store = FloatArray(capacitySamples + 4) // the reader's neighbours stay while the writer fills the rest
    private val written = AtomicLong()
    private val index = AtomicLong() // whole part of the reader's place
    private var dropped = 0L

    @Volatile private var ended = false

    // The reader's; the writer looks.
    @Volatile private var playing = false

    @Volatile private var begins = 0

    @Volatile private var cuts = 0

    @Volatile private var readNs = 0L

    @Volatile private var readFrames = 0
    private var fraction = 0L

    // The writer's; the reader looks: what holds as of the reader's begins and cuts of `epoch`, and what does otherwise.
    private val control: PlayoutControl

    @Volatile private var nextAdjust = 0L

    @Volatile private var nextCut = 0L

    @Volatile private var restAdjust = 0L

    @Volatile private var epoch = 0
    private var begun = 0
    private var cutsSeen = 0
    private var trimmed = 0L
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
        require(deadbandSamples >= 0 && toleranceSamples >= 0) {
            "playout: deadband and tolerance must be at least 0 samples, got $deadbandSamples and $toleranceSamples"
        }
        control = PlayoutControl(rateHz, prefillSamples, deadbandSamples, toleranceSamples, driftCorrection)
    }

    /** Samples held. */
    val level: Long get() = written.get() - index.get()

    /** How much faster (positive) or slower than the writer's clock the reader runs, in 2^-32 samples a sample. */
    val adjustment: Long get() = if (epoch == begins + cuts) nextAdjust else restAdjust

    /** Where every sample went; exact when both threads rest. */
    fun counts() =
        PlayoutCounts(
            written.get() + dropped,
            written.get(),
            dropped,
            index.get(),
            level,
            trimmed,
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
        playing = false
        begins = 0
        cuts = 0
        readNs = 0
        readFrames = 0
        fraction = 0
        trimmed = 0
        begun = 0
        cutsSeen = 0
        control.reset()
        publish()
    }

    private fun publish() {
        nextAdjust = control.adjust
        nextCut = control.cut
        restAdjust = control.rest
        epoch = begun + cutsSeen
    }

    /** Writer: takes in what fits; it is [timeNs]. Returns samples dropped. */
    fun write(
        block: FloatArray,
        offset: Int,
        count: Int,
        timeNs: Long,
    ): Int {
        if (ended) throw StreamException("playout: the stream was finished; reset it before the next block")
        val begin = written.get()
        val n = minOf(count.toLong(), capacitySamples - (begin - index.get())).toInt()
        for (i in 0 until n) store[((begin + i) % store.size).toInt()] = block[offset + i]
        written.lazySet(begin + n)
        dropped += count - n
        if (playing && n > 0) look(n, timeNs)
        return count - n
    }

    private fun look(
        n: Int,
        timeNs: Long,
    ) {
        val newBegins = begins
        val newCuts = cuts
        while (begun < newBegins) {
            begun++
            control.begin()
        }
        if (cutsSeen < newCuts) {
            cutsSeen = newCuts
            control.restart()
        }
        val frames = readFrames
        val used = ((timeNs - readNs).coerceIn(0, NANOS) * rateHz / NANOS).coerceAtMost(frames.toLong())
        control.write(n, level + frames - used, frames)
        publish()
    }

    /** Writer: no more is written; what is held plays to its end, and what follows is tail, not underrun. */
    fun finish() {
        ended = true
    }

    /** Reader: the device's next [frames] samples, into [out]; it is [timeNs]. */
    fun read(
        out: FloatArray,
        frames: Int,
        timeNs: Long,
    ) {
        val over = ended // read before the level: nothing is written after it
        val held = level
        out.fill(0f, 0, frames)
        if (!playing) {
            if (held < prefillSamples && !over) {
                silence += frames
                return
            }
            begins++
            playing = true
        }
        readNs = timeNs
        readFrames = frames
        val current = epoch == begins + cuts
        val adjust = if (current) nextAdjust else restAdjust
        val cut = if (current) nextCut else 0L
        if (cut > 0 && !over && held - cut >= frames + (frames shr 9) + 4) {
            makeCut(out, frames, held, adjust, cut)
            return
        }
        val count = playable(frames, held, over, adjust)
        if (count > 0) play(out, count, held, adjust)
        played += count
        if (count < frames && over) {
            tail += frames - count
        } else if (count < frames) {
            underrun += frames - count
            underruns++
            playing = false
            fraction = 0
        }
    }

    /** How many of the next outputs the samples held allow. */
    private fun playable(
        frames: Int,
        held: Long,
        over: Boolean,
        adjust: Long,
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
        adjust: Long,
    ) {
        val begin = index.get()
        val whole = fraction == 0L && adjust == 0L
        var place = fraction
        for (i in 0 until count) {
            out[i] = output(begin, place, held, whole)
            place += ONE + adjust
        }
        index.lazySet(begin + minOf(place ushr 32, held))
        fraction = place and (ONE - 1)
    }

    /** A read across a cut: what would come here fades into what comes after it. */
    private fun makeCut(
        out: FloatArray,
        frames: Int,
        held: Long,
        adjust: Long,
        cut: Long,
    ) {
        val begin = index.get()
        val whole = fraction == 0L && adjust == 0L
        var place = fraction
        for (i in 0 until frames) {
            val fade = (i + 1) / (frames + 1).toDouble()
            val here = output(begin, place, held, whole)
            val later = output(begin, place + (cut shl 32), held, whole)
            out[i] = (here * (1.0 - fade) + later * fade).toFloat()
            place += ONE + adjust
        }
        fraction = place and (ONE - 1)
        played += frames
        trimmed += cut
        cuts++
        index.lazySet(begin + cut + (place ushr 32))
    }

    private fun output(
        begin: Long,
        place: Long,
        held: Long,
        whole: Boolean,
    ): Float {
        val k = place ushr 32
        if (whole) return at(begin, k, held).toFloat()
        return cubic(
            at(begin, k - 1, held),
            at(begin, k, held),
            at(begin, k + 1, held),
            at(begin, k + 2, held),
            (place and (ONE - 1)) / ONE.toDouble(),
        )
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

/**
 * How far a playout's level may wander: a quarter of a buffer, at most 5 ms.
 *
 * @param hop samples at the device's rate that one buffer of the model gives.
 * @param block frames of the device's longest callback, as far as it is known.
 */
fun deadbandAtDevice(
    hop: Int,
    block: Int,
    rateHz: Int,
): Int = minOf(maxOf(hop / 4, block / 16), rateHz / 200)
