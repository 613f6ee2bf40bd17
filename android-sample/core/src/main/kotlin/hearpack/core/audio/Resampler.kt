package hearpack.core.audio

import hearpack.core.bundle.StreamException
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin
import kotlin.math.sqrt

private const val HALF_WIDTH = 24
private const val CUTOFF = 0.94
private const val BETA = 8.2
private const val I0_TERMS = 32
private const val TAP_SCALE = 16777216.0 // 2^24
private const val INPUT_SCALE = 33554432.0 // 2^25
private const val LOUDEST = 4.0 * INPUT_SCALE
private const val ROUND = 1.0 / (TAP_SCALE * INPUT_SCALE)
private const val NO_FRACTION = 6755399441055744.0 // 1.5 * 2^52
private const val INFINITY_BITS = 0x7f800000
private const val PIECE = 4096
private const val EAGER_TAPS = 1 shl 18
private const val LOWEST_RATE_HZ = 4_000
private const val HIGHEST_RATE_HZ = 192_000

/**
 * The one resampler of everything that streams: a polyphase FIR, the same bits as streaming/core/resample.py.
 *
 * Taps and input sit on grids so coarse that every sum is exact in a Double, so neither the order of summation nor
 * the partition of the input into blocks can change a bit. No allocation after construction.
 *
 * @param inRateHz rate of the blocks given, 4,000 to 192,000.
 * @param outRateHz rate of the blocks returned, 4,000 to 192,000.
 */
class Resampler(
    val inRateHz: Int,
    val outRateHz: Int,
) {
    val up: Int
    val down: Int

    /** Group delay in output samples: always whole. */
    val delayOutSamples: Int

    /** Input samples that an output is made of. */
    val tapsPerOutput: Int
    private val rows: DoubleArray // [up, tapsPerOutput], row = phase, oldest input first
    private val known: BooleanArray
    private val raw: DoubleArray
    private val line: DoubleArray
    private val zeros: FloatArray
    private var filled = 0
    private var origin = 0L // absolute index of line[0]
    private var ended = false

    var inSamples = 0L
        private set
    var outSamples = 0L
        private set

    init {
        require(inRateHz in LOWEST_RATE_HZ..HIGHEST_RATE_HZ && outRateHz in LOWEST_RATE_HZ..HIGHEST_RATE_HZ) {
            "resampler: rates must be $LOWEST_RATE_HZ to $HIGHEST_RATE_HZ Hz, got $inRateHz and $outRateHz"
        }
        val divisor = gcd(inRateHz, outRateHz)
        up = outRateHz / divisor
        down = inRateHz / divisor
        val same = up == down
        val widest = maxOf(up, down)
        delayOutSamples = resamplerDelay(inRateHz, outRateHz)
        tapsPerOutput =
            if (same) 1 else ((delayOutSamples.toLong() * down + HALF_WIDTH.toLong() * widest) / up).toInt() + 1
        rows = DoubleArray(if (same) 0 else up * tapsPerOutput)
        known = BooleanArray(up)
        raw = DoubleArray(tapsPerOutput)
        line = DoubleArray(if (same) 0 else tapsPerOutput + PIECE)
        zeros = FloatArray(if (same) 0 else (delayOutSamples.toLong() * down / up).toInt() + 2)
        if (!same && rows.size <= EAGER_TAPS) for (phase in 0 until up) fill(phase)
        reset()
    }

    /** The most outputs that [count] new samples can complete. */
    fun mostOutputs(count: Int): Int = (ceilDiv(count.toLong() * up, down.toLong()) + 1).toInt()

    /** Begins a new stream: silence before sample 0. */
    fun reset() {
        inSamples = 0
        outSamples = 0
        ended = false
        line.fill(0.0)
        origin = 1L - tapsPerOutput
        filled = tapsPerOutput - 1
    }

    /**
     * Outputs that new samples complete; after n samples in all, ceil(n L / M) have come out in all.
     *
     * @param output takes [mostOutputs] of [count] from [outputOffset] on.
     * @return how many outputs were written.
     * @throws StreamException NaN or Inf, nothing is consumed; or the stream was flushed.
     */
    fun process(
        input: FloatArray,
        offset: Int,
        count: Int,
        output: FloatArray,
        outputOffset: Int = 0,
    ): Int {
        if (ended) throw StreamException("resampler: the stream was flushed; reset it before the next block")
        checkFinite(input, offset, count, inSamples, inRateHz)
        if (up == down) {
            for (i in 0 until count) output[outputOffset + i] = input[offset + i].coerceIn(-INPUT_LIMIT, INPUT_LIMIT)
            inSamples += count
            outSamples += count
            return count
        }
        return run(input, offset, count, output, outputOffset)
    }

    /** The last [delayOutSamples] outputs, or none if nothing ever came in; the stream is then over. */
    fun flush(
        output: FloatArray,
        outputOffset: Int = 0,
    ): Int {
        if (ended || inSamples == 0L || up == down) {
            ended = true
            return 0
        }
        ended = true
        val samples = inSamples
        val wanted = ceilDiv(samples * up, down.toLong()) + delayOutSamples
        var n = 0
        // The zeros may complete an output too many: it is worked out and not handed over.
        val spare = FloatArray(mostOutputs(zeros.size))
        val came = run(zeros, 0, zeros.size, spare, 0)
        n = minOf(came.toLong(), wanted - (outSamples - came)).toInt()
        System.arraycopy(spare, 0, output, outputOffset, n)
        inSamples = samples
        outSamples = wanted
        return n
    }

    private fun run(
        input: FloatArray,
        offset: Int,
        count: Int,
        output: FloatArray,
        outputOffset: Int,
    ): Int {
        var taken = 0
        var written = 0
        while (taken < count) {
            val n = minOf(PIECE, count - taken)
            append(input, offset + taken, n)
            taken += n
            written += produce(output, outputOffset + written)
        }
        return written
    }

    private fun append(
        input: FloatArray,
        offset: Int,
        count: Int,
    ) {
        for (i in 0 until count) {
            line[filled + i] = nearest(clamped(input[offset + i] * INPUT_SCALE, LOUDEST))
        }
        filled += count
        inSamples += count
    }

    private fun produce(
        output: FloatArray,
        outputOffset: Int,
    ): Int {
        val last = ceilDiv(inSamples * up, down.toLong())
        var at = outputOffset
        while (outSamples < last) {
            val position = outSamples * down
            val phase = (position % up).toInt()
            if (!known[phase]) fill(phase)
            val row = phase * tapsPerOutput
            val start = (position / up - (tapsPerOutput - 1) - origin).toInt()
            output[at++] = (dot(start, row) * ROUND).toFloat()
            outSamples++
        }
        discard()
        return at - outputOffset
    }

    /** Sums are exact, so four of them side by side give the same bits in a quarter of the time. */
    private fun dot(
        start: Int,
        row: Int,
    ): Double {
        val whole = tapsPerOutput and 3.inv()
        var a = 0.0
        var b = 0.0
        var c = 0.0
        var d = 0.0
        var k = 0
        while (k < whole) {
            a += line[start + k] * rows[row + k]
            b += line[start + k + 1] * rows[row + k + 1]
            c += line[start + k + 2] * rows[row + k + 2]
            d += line[start + k + 3] * rows[row + k + 3]
            k += 4
        }
        while (k < tapsPerOutput) {
            a += line[start + k] * rows[row + k]
            k++
        }
        return (a + b) + (c + d)
    }

    /** Moves what later outputs still need to the front of the line. */
    private fun discard() {
        val needed = outSamples * down / up - (tapsPerOutput - 1)
        val drop = minOf(needed - origin, filled.toLong()).toInt()
        if (drop <= 0) return
        System.arraycopy(line, drop, line, 0, filled - drop)
        origin += drop
        filled -= drop
    }

    private fun fill(phase: Int) {
        val widest = maxOf(up, down)
        val i0 = besselI0(BETA)
        var total = 0.0
        for (k in 0 until tapsPerOutput) {
            val i = tapsPerOutput - 1 - k
            val numerator = delayOutSamples.toLong() * down - i.toLong() * up - phase
            raw[k] = if (abs(numerator) > HALF_WIDTH.toLong() * widest) 0.0 else kernel(numerator, widest) / i0
            total += raw[k]
        }
        val row = phase * tapsPerOutput
        for (k in 0 until tapsPerOutput) rows[row + k] = Math.rint(raw[k] / total * TAP_SCALE)
        known[phase] = true
    }

    /** Taps of a phase in units of 2^-24, for tests. */
    fun taps(phase: Int): DoubleArray {
        if (!known[phase]) fill(phase)
        return rows.copyOfRange(phase * tapsPerOutput, (phase + 1) * tapsPerOutput)
    }
}

/** How far a resampler's output lags its input, in output samples; 0 between equal rates. */
fun resamplerDelay(
    inRateHz: Int,
    outRateHz: Int,
): Int {
    if (inRateHz == outRateHz) return 0
    val divisor = gcd(inRateHz, outRateHz)
    val down = inRateHz / divisor
    return ceilDiv(HALF_WIDTH.toLong() * maxOf(outRateHz / divisor, down), down.toLong()).toInt()
}

/** The kernel at numerator / widest, times I0(BETA). */
private fun kernel(
    numerator: Long,
    widest: Int,
): Double {
    val v = numerator.toDouble() / widest
    val edge = v / HALF_WIDTH
    val angle = PI * v
    val sinc = if (numerator == 0L) CUTOFF else sin(CUTOFF * angle) / angle
    return sinc * besselI0(BETA * sqrt(1.0 - edge * edge))
}

/** Modified Bessel function of the first kind, order 0, by its power series. */
private fun besselI0(x: Double): Double {
    val quarterSquare = x * x / 4.0
    var term = 1.0
    var total = 1.0
    for (k in 1..I0_TERMS) {
        term = term * quarterSquare / (k * k).toDouble()
        total += term
    }
    return total
}

/**
 * @param atSample position of the first sample in the stream, counted from reset.
 * @throws StreamException a sample is NaN or Inf; names its position.
 */
fun checkFinite(
    block: FloatArray,
    offset: Int,
    count: Int,
    atSample: Long,
    sampleRateHz: Int,
) {
    if (largestBits(block, offset, count) < INFINITY_BITS) return
    val bad = (offset until offset + count).first { !block[it].isFinite() }
    val at = atSample + bad - offset
    throw StreamException(
        "sample $at (${"%.3f".format(at.toDouble() / sampleRateHz)} s from the stream's start) is ${block[bad]}, " +
            "expected finite numbers of full scale 1.0",
    )
}

/** Math.rint for magnitudes up to 2^51, in two additions on any compiler: beyond 2^52 a Double has no fraction. */
internal fun nearest(x: Double): Double = (x + NO_FRACTION) - NO_FRACTION

internal fun clamped(
    x: Double,
    limit: Double,
): Double {
    if (x > limit) return limit
    return if (x < -limit) -limit else x
}

internal fun ceilDiv(
    a: Long,
    b: Long,
): Long = -Math.floorDiv(-a, b)

private tailrec fun gcd(
    a: Int,
    b: Int,
): Int = if (b == 0) a else gcd(b, a % b)
