package hearpack.core.audio

import hearpack.core.bundle.StreamException
import hearpack.core.stream.InferenceEngine
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.log10
import kotlin.math.pow
import kotlin.math.sqrt
import kotlin.math.tan

/*
 * The plain DSP around the net: streaming/core/dsp.py, operation by operation. Arithmetic is Double in the order written
 * there, rounded to Float once; Kotlin fuses no multiply-add. Everything works in place and allocates nothing.
 */

private const val TWO_15 = 32768.0
private const val LEVEL_LIMIT = 131072.0 // 2^17
private const val FULL_SCALE_ENERGY = 1073741824.0 // 2^30
private const val PIECE = 1024
private const val LONGEST_WINDOW = 1 shl 18
private const val TINY = 1e-30
private const val SILENT_GAIN = 1.0 / 1048576.0 // 2^-20

/** The nearest multiple of 2^-bits, halves to even. */
internal fun onGrid(
    value: Double,
    bits: Int,
): Double {
    val scale = 2.0.pow(bits)
    return Math.rint(value * scale) / scale
}

/** Sum of squares in units of 2^-30, exact. */
fun energy(
    block: FloatArray,
    offset: Int,
    count: Int,
): Long {
    var sum = 0L
    for (i in offset until offset + count) {
        val q = nearest(clamped(block[i] * TWO_15, LEVEL_LIMIT)).toLong()
        sum += q * q
    }
    return sum
}

/** Mean square in dB; 0 dBFS is a mean square of 1.0, minus infinity is silence. */
fun levelDbfs(
    energy: Long,
    samples: Long,
): Double =
    if (energy > 0 && samples > 0) {
        10.0 * log10(energy / (samples * FULL_SCALE_ENERGY))
    } else {
        Double.NEGATIVE_INFINITY
    }

/** Level of what came since the last reading. */
class InputMeter {
    private var energy = 0L
    private var samples = 0L

    /** Largest absolute sample since the last [clear]. */
    var peak = 0f
        private set

    val rmsDbfs: Double get() = levelDbfs(energy, samples)

    fun push(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        energy += energy(block, offset, count)
        samples += count
        var largest = peak
        for (i in offset until offset + count) {
            val a = abs(block[i])
            if (a > largest) largest = a
        }
        peak = largest
    }

    fun clear() {
        energy = 0
        samples = 0
        peak = 0f
    }
}

/** A stage that works on a block in place. */
interface InPlace {
    fun reset()

    fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    )
}

class HighpassFilter(
    stage: Stage.Highpass,
    sampleRateHz: Int,
) : InPlace {
    val b: Double
    val a1: Double
    val a2: Double
    private var x1 = 0.0
    private var x2 = 0.0
    private var y1 = 0.0
    private var y2 = 0.0

    init {
        val t = tan(PI * stage.cutoffHz / sampleRateHz)
        val n = 1.0 / (1.0 + sqrt(2.0) * t + t * t)
        b = onGrid(n, 40)
        a1 = onGrid(2.0 * (t * t - 1.0) * n, 40)
        a2 = onGrid((1.0 - sqrt(2.0) * t + t * t) * n, 40)
    }

    override fun reset() {
        x1 = 0.0
        x2 = 0.0
        y1 = 0.0
        y2 = 0.0
    }

    override fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        for (i in offset until offset + count) {
            val x = block[i].toDouble()
            val v = (b * x - 2.0 * b * x1) + b * x2
            var y = (v - a1 * y1) - a2 * y2
            if (y > -TINY && y < TINY) y = 0.0
            x2 = x1
            x1 = x
            y2 = y1
            y1 = y
            block[i] = y.toFloat()
        }
    }
}

class FixedGain(
    stage: Stage.Gain,
) : InPlace {
    val factor = onGrid(10.0.pow(stage.gainDb / 20.0), 20)

    override fun reset() = Unit

    override fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        for (i in offset until offset + count) block[i] = (block[i] * factor).toFloat()
    }
}

/** A peak limiter; a block that needs no limiting passes untouched. */
class PeakLimiter(
    stage: Stage.Limiter,
    sampleRateHz: Int,
) : InPlace {
    val ceiling = onGrid(10.0.pow(stage.ceilingDbfs / 20.0), 20)
    val release = onGrid(1.0 - exp(-1.0 / (stage.releaseMs * sampleRateHz / 1000.0)), 30)
    private var gain = 1.0

    override fun reset() {
        gain = 1.0
    }

    override fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        for (i in offset until offset + count) {
            val p = abs(block[i].toDouble())
            gain += (1.0 - gain) * release
            if (1.0 - gain < SILENT_GAIN) gain = 1.0
            if (p > ceiling && gain > ceiling / p) gain = ceiling / p
            block[i] = (block[i] * gain).toFloat()
        }
    }
}

/** Decides which windows a classifier hears. */
class WindowGate(
    stage: Stage.Gate,
    private val windowSamples: Int,
) {
    val limit: Long
    private val hold = stage.holdWindows
    private var left = 0

    init {
        require(
            windowSamples <= LONGEST_WINDOW,
        ) { "gate: a window may have $LONGEST_WINDOW samples, got $windowSamples" }
        limit = windowSamples * Math.rint(10.0.pow(stage.thresholdDbfs / 10.0) * 2.0.pow(40)).toLong()
    }

    fun reset() {
        left = 0
    }

    /** Whether this window, the next of the stream, is given to the net. */
    fun opens(window: FloatArray): Boolean {
        if (energy(window, 0, windowSamples) shl 10 >= limit) {
            left = hold
            return true
        }
        left -= 1
        return left >= 0
    }
}

/** An engine behind a gate: zeros for the scores of windows that are not given to it. Has no state of its own. */
class GatedEngine(
    private val engine: InferenceEngine,
    private val gate: WindowGate,
) : InferenceEngine by engine {
    override fun reset(bank: Int) {
        gate.reset()
        engine.reset(bank)
    }

    override fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    ) {
        if (gate.opens(audio)) engine.run(audio, output, from, to) else output.fill(0f)
    }
}

/**
 * Leaves some of the input in an enhancer's output. Input goes in with [feed], before the output that belongs to it.
 *
 * @param ahead the most input that may be fed before its output is asked for, delay apart.
 */
class WetDryMix(
    stage: Stage.WetDry,
    private val delaySamples: Int,
    ahead: Int,
) : InPlace {
    val dry = onGrid(10.0.pow(-stage.attenuationLimitDb / 20.0), 20)
    private val wet = 1.0 - dry
    private val held = RingBuffer(delaySamples + ahead)
    private val taken = FloatArray(minOf(held.capacity, PIECE))

    init {
        reset()
    }

    override fun reset() {
        while (held.read(taken, 0, taken.size) > 0) continue
        taken.fill(0f)
        var silence = delaySamples
        while (silence > 0) silence -= held.write(taken, 0, minOf(silence, taken.size))
    }

    fun feed(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        if (held.write(block, offset, count) < count) throw StreamException("wet_dry: more input ahead than held")
    }

    override fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        var done = 0
        while (done < count) {
            val n = held.read(taken, 0, minOf(count - done, taken.size))
            if (n == 0) throw StreamException("wet_dry: more output than input was fed")
            for (i in 0 until n) block[offset + done + i] = (wet * block[offset + done + i] + dry * taken[i]).toFloat()
            done += n
        }
    }
}

/** The stages before the net, the bound of what it may be given, and the meter after them. */
class InputChain(
    stages: List<Stage>,
    sampleRateHz: Int,
) {
    val meter = InputMeter()
    private val bound = InputBound()
    private val filters: Array<InPlace> =
        stages
            .mapNotNull {
                when (it) {
                    is Stage.Highpass -> HighpassFilter(it, sampleRateHz)
                    is Stage.Gain -> FixedGain(it)
                    else -> null
                }
            }.toTypedArray()

    /** Samples since reset that were limited: a filter overshot, or `gain` lifted them. */
    val limitedSamples: Long get() = bound.limitedSamples

    fun reset() {
        meter.clear()
        bound.reset()
        for (filter in filters) filter.reset()
    }

    fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        for (filter in filters) filter.process(block, offset, count)
        bound.process(block, offset, count)
        meter.push(block, offset, count)
    }
}

/** The stages after an enhancer. */
class OutputChain(
    stages: List<Stage>,
    sampleRateHz: Int,
    delaySamples: Int,
    ahead: Int,
) {
    private val mix = stages.filterIsInstance<Stage.WetDry>().firstOrNull()?.let { WetDryMix(it, delaySamples, ahead) }
    private val limiter = stages.filterIsInstance<Stage.Limiter>().firstOrNull()?.let { PeakLimiter(it, sampleRateHz) }

    fun reset() {
        mix?.reset()
        limiter?.reset()
    }

    /** What goes into the net, before the output that belongs to it. */
    fun feed(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        mix?.feed(block, offset, count)
    }

    fun process(
        block: FloatArray,
        offset: Int,
        count: Int,
    ) {
        mix?.process(block, offset, count)
        limiter?.process(block, offset, count)
    }
}
