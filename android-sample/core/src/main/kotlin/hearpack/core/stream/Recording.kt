package hearpack.core.stream

/**
 * The last seconds of input and output of an enhancer, aligned, for A/B playback. Both at the model's rate. One thread
 * adds; what was kept is read when it rests.
 */
class Recording(
    val sampleRateHz: Int,
    private val delaySamples: Int,
    seconds: Int,
) {
    /** Samples kept at most. */
    private val most = sampleRateHz * seconds

    // A second more than is kept: the output lags the input.
    private val original = FloatArray(most + sampleRateHz)
    private val enhanced = FloatArray(most + sampleRateHz)
    private var originals = 0L
    private var skipped = 0
    private var outputs = 0L
    private val end: Long get() = minOf(originals, outputs)
    private val begin: Long get() = maxOf(0, end - most, maxOf(originals, outputs) - original.size)

    /** Samples there are of both. */
    val samples: Int get() = maxOf(0, end - begin).toInt()

    fun addOriginal(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        put(original, originals, block, offset, count)
        originals += count
    }

    /** The lead-in of the model's delay is left out. */
    fun addEnhanced(
        block: FloatArray,
        count: Int,
    ) {
        val skip = minOf(count, delaySamples - skipped)
        skipped += skip
        put(enhanced, outputs, block, skip, count - skip)
        outputs += count - skip
    }

    private fun put(
        ring: FloatArray,
        place: Long,
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        var done = 0
        while (done < count) {
            val at = ((place + done) % ring.size).toInt()
            val n = minOf(count - done, ring.size - at)
            System.arraycopy(block, offset + done, ring, at, n)
            done += n
        }
    }

    private fun kept(ring: FloatArray): FloatArray {
        val from = begin
        return FloatArray(samples) { ring[((from + it) % ring.size).toInt()] }
    }

    /** A: what the microphone heard. */
    fun a(): FloatArray = kept(original)

    /** B: what the model made of it. */
    fun b(): FloatArray = kept(enhanced)

    fun reset() {
        originals = 0
        skipped = 0
        outputs = 0
    }
}
