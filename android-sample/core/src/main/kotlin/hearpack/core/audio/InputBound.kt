package hearpack.core.audio

/** What a net may be given at most: the resampler's saturation, 12 dB over full scale. */
const val INPUT_LIMIT = 4f

private const val LIMIT_BITS = 0x40800000 // of INPUT_LIMIT
private const val NO_NUMBER_BITS = 0x7f800000 // of infinity; NaN lies above

/**
 * NaN and infinities become 0, what lies beyond +-[INPUT_LIMIT] becomes +-[INPUT_LIMIT]; both are counted. The rule of
 * streaming/core/bound.py: for what the device gives, and again for what the net is given.
 */
class InputBound : InPlace {
    /** Samples since reset that were no numbers. */
    var nanSamples = 0L
        private set

    /** Samples since reset that were limited. */
    var limitedSamples = 0L
        private set

    override fun reset() {
        nanSamples = 0
        limitedSamples = 0
    }

    override fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        if (largestBits(block, offset, count) <= LIMIT_BITS) return
        for (i in offset until offset + count) {
            val bits = block[i].toRawBits() and Int.MAX_VALUE
            if (bits <= LIMIT_BITS) continue
            if (bits >= NO_NUMBER_BITS) {
                nanSamples += 1
                block[i] = 0f
            } else {
                limitedSamples += 1
                block[i] = if (block[i] < 0f) -INPUT_LIMIT else INPUT_LIMIT
            }
        }
    }
}

/** Whether no value is NaN or infinite. */
internal fun allFinite(values: FloatArray): Boolean = largestBits(values, 0, values.size) < NO_NUMBER_BITS

/** The largest magnitude as bits without sign: NaN and infinity lie above every number. */
internal fun largestBits(
    block: FloatArray,
    offset: Int,
    count: Int,
): Int {
    var largest = 0
    for (i in offset until offset + count) largest = maxOf(largest, block[i].toRawBits() and Int.MAX_VALUE)
    return largest
}
