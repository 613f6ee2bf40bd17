package hearpack.core.audio

import hearpack.core.bundle.Manifest

private const val NANOS = 1_000_000_000L
private const val JITTERS = 6
private const val LEAST_JITTER_NS = 250_000L // our own threads' wake-ups
private const val LARGEST_RING = 1 shl 22

/**
 * An enhancer's sound at the speaker's rate and clock: resampler and playout ring, sized for how the device's audio comes.
 * One thread writes, one reads; nothing is allocated between two begins.
 *
 * @param rateHz the speaker's rate.
 */
class Playout(
    private val manifest: Manifest,
    val rateHz: Int,
) {
    private val modelRate = manifest.geometry.sampleRateHz

    /** Frames of the speaker's blocks. */
    val block = rateHz / 100
    private val hop = atSpeaker(manifest.buffer.samples, modelRate)
    private val resampler = Resampler(modelRate, rateHz)
    private val work =
        FloatArray(maxOf(resampler.mostOutputs(manifest.buffer.samples), resampler.delayOutSamples + 4))

    @Volatile private var ring: PlayoutRing? = null

    @Volatile private var earlierUnderruns = 0L

    @Volatile private var muted = false

    private fun atSpeaker(
        samples: Int,
        fromHz: Int,
    ): Int = ceilDiv(samples.toLong() * rateHz, fromHz.toLong()).toInt()

    /** Whether [begin] was called since the last [restart]. */
    val begun: Boolean get() = ring != null

    /** Samples held. */
    val level: Long get() = ring?.level ?: 0

    /** Reads that found too little in mid-stream. */
    val underruns: Long get() = earlierUnderruns + (ring?.underrunCount ?: 0)

    /** Where every sample went since [begin]; null before it. Exact when both threads rest. */
    fun counts(): PlayoutCounts? = ring?.counts()

    /**
     * Writer: the next samples are the first of a stream. What is held before playing begins is the manifest's figure, or
     * a buffer, a block of the speaker, what of the microphone comes at once, and six times its jitter: enough for every
     * phase that these three may have, which two clocks run through.
     *
     * @param lumpFrames frames of the microphone that come at once.
     * @param lumpRateHz their rate.
     * @param jitterNanos how unevenly they come, root mean square.
     */
    fun begin(
        lumpFrames: Int,
        lumpRateHz: Int,
        jitterNanos: Long,
    ) {
        val lump = atSpeaker(lumpFrames, lumpRateHz)
        val rhythms = hop + block + lump
        val jitter = (JITTERS * maxOf(jitterNanos, LEAST_JITTER_NS) * rateHz / NANOS).toInt()
        val prefill = manifest.prefillSamples?.let { atSpeaker(it, modelRate) } ?: (rhythms + jitter)
        val burst = maxOf(block, hop, lump)
        val capacity = maxOf(4 * prefill + 4 * burst, 2 * rateHz).coerceAtMost(LARGEST_RING)
        resampler.reset()
        ring = PlayoutRing(capacity, prefill, deadbandAtDevice(hop, burst, rateHz), hop, rateHz)
    }

    /** Writer: another stream follows; what is held is let go. */
    fun restart() {
        earlierUnderruns = underruns
        ring = null
    }

    /** Writer: what the model gave at [timeNs]; before [begin] it is let go. Returns samples for which there was no room. */
    fun write(
        samples: FloatArray,
        count: Int,
        timeNs: Long,
    ): Int {
        val ring = ring
        if (ring == null || muted) return 0
        return ring.write(work, 0, resampler.process(samples, 0, count, work), timeNs)
    }

    /** Reader: nothing is played any more; what is written is let go. */
    fun mute() {
        muted = true
    }

    /** Writer: nothing follows; what is held plays to its end. */
    fun finish() {
        ring?.finish()
    }

    /** Reader: the speaker's next [frames] samples; silence before [begin]. */
    fun read(
        out: FloatArray,
        frames: Int,
        timeNs: Long,
    ) {
        val ring = ring
        if (ring == null) out.fill(0f, 0, frames) else ring.read(out, frames, timeNs)
    }
}
