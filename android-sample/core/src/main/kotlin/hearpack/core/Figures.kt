package hearpack.core

import java.util.Arrays

/** The last [size] values, kept in order, so that percentiles are exact and cost no allocation. */
class SortedWindow(
    private val size: Int,
) {
    private val byTime = LongArray(size)
    private val sorted = LongArray(size)
    private var next = 0

    var count = 0
        private set

    fun add(value: Long) {
        if (count == size) {
            val old = Arrays.binarySearch(sorted, 0, count, byTime[next])
            System.arraycopy(sorted, old + 1, sorted, old, count - old - 1)
            count--
        }
        val found = Arrays.binarySearch(sorted, 0, count, value)
        val at = if (found >= 0) found else -found - 1
        System.arraycopy(sorted, at, sorted, at + 1, count - at)
        sorted[at] = value
        count++
        byTime[next] = value
        next = (next + 1) % size
    }

    /** The value that [percent] of the window do not exceed; 0 when nothing came yet. */
    fun percentile(percent: Int): Long = if (count == 0) 0 else sorted[minOf(count - 1, count * percent / 100)]
}

private const val NANOS = 1_000_000_000L

/** How much the capture thread has put into the ring of a route, and when it did so last. */
class Arrival(
    val rateHz: Int,
) {
    @Volatile var samples = 0L
        private set

    @Volatile var timeNs = 0L
        private set

    /** Capture thread. */
    fun came(
        timeNs: Long,
        count: Int,
    ) {
        this.timeNs = timeNs
        samples += count
    }
}

/**
 * Times the calls of an engine as they come, paced by the audio, and counts those that came too late.
 *
 * @param hopSamples new samples a call takes: one that lasts longer than they take to come misses its deadline.
 * @param modelRateHz their rate.
 */
class ComputeMeter(
    private val clock: Clock,
    hopSamples: Int,
    private val modelRateHz: Int,
    private val trace: TraceRecorder,
) : CallMeter {
    private val hopNanos = hopSamples * NANOS / modelRateHz
    private val window = SortedWindow(512)
    private val waits = SortedWindow(512)
    private var began = 0L
    private var endSample = 0L

    /** What has come of the present route; the worker sets it. */
    var arrival: Arrival? = null
    private var waitingSamples = 0

    /** Time from a buffer being complete to its call's begin, p50. */
    @Volatile var waitP50Nanos = 0L
        private set

    @Volatile var p50Nanos = 0L
        private set

    @Volatile var p95Nanos = 0L
        private set

    @Volatile var calls = 0L
        private set

    @Volatile var misses = 0L
        private set

    override fun begin(endSample: Long) {
        this.endSample = endSample
        began = clock.nanos()
        val come = arrival ?: return
        val beyond = come.samples - endSample * come.rateHz / modelRateHz
        waitingSamples = maxOf(0L, beyond * modelRateHz / come.rateHz).toInt()
        waits.add(maxOf(0L, began - come.timeNs + beyond * NANOS / come.rateHz))
        waitP50Nanos = waits.percentile(50)
    }

    override fun end() {
        val now = clock.nanos()
        trace.inference(began, now, endSample, waitingSamples, null)
        window.add(now - began)
        p50Nanos = window.percentile(50)
        p95Nanos = window.percentile(95)
        calls += 1
        if (now - began > hopNanos) misses += 1
    }

    override fun failed(message: String) = trace.inference(began, clock.nanos(), endSample, waitingSamples, message)
}

/** How a part of the latency is known. A number that was measured and one that is stated never share a column. */
enum class Known { MEASURED, EXACT, STATED }

/** The parts, named as streaming/simulator/pipeline/ledger.py names them. */
enum class LatencyName {
    CAPTURE_BLOCK,
    INPUT_ROUTE,
    RESAMPLER,
    RING_WAIT,
    FRAMING,
    MODEL_DELAY,
    COMPUTE,
    OUTPUT_RESAMPLER,
    PLAYOUT_PREFILL,
    OUTPUT_ROUTE,
}

/** One part of the way from the microphone to the result. */
data class LatencyPart(
    val name: LatencyName,
    val ms: Double,
    val known: Known,
)

/** Latency as a sum of named parts. */
data class LatencyLedger(
    val parts: List<LatencyPart>,
) {
    val totalMs: Double get() = parts.sumOf { it.ms }

    companion object {
        /**
         * @param captureBlock frames of a capture block, at [deviceRateHz].
         * @param hardwareNanos from the hardware's timestamp to our read; 0 where it is not known.
         * @param waitNanos from a buffer being complete to its call's begin, p50; 0 where it is not known.
         * @param computeNanos p50 of the paced calls.
         * @param playoutSamples held in the playout ring, at the device's rate; null for a classifier.
         * @param playBlock frames the speaker's buffer holds, at the device's rate, as the system states it.
         */
        fun of(
            manifest: Manifest,
            deviceRateHz: Int,
            captureBlock: Int,
            hardwareNanos: Long,
            waitNanos: Long,
            computeNanos: Long,
            playoutSamples: Long?,
            playBlock: Int,
        ): LatencyLedger {
            val rate = manifest.geometry.sampleRateHz
            val device = 1000.0 / deviceRateHz
            val model = 1000.0 / rate
            val parts = mutableListOf<LatencyPart>()
            parts += LatencyPart(LatencyName.CAPTURE_BLOCK, captureBlock * device, Known.EXACT)
            if (hardwareNanos > 0) parts += LatencyPart(LatencyName.INPUT_ROUTE, hardwareNanos / 1e6, Known.MEASURED)
            parts += LatencyPart(LatencyName.RESAMPLER, resamplerDelay(deviceRateHz, rate) * model, Known.EXACT)
            val wait = if (manifest.buffer.kind == BufferKind.STEP) manifest.buffer.samples else manifest.hopSamples
            parts += LatencyPart(LatencyName.FRAMING, wait * model, Known.EXACT)
            val delay = manifest.geometry.delaySamples
            if (delay > 0) parts += LatencyPart(LatencyName.MODEL_DELAY, delay * model, Known.EXACT)
            if (waitNanos > 0) parts += LatencyPart(LatencyName.RING_WAIT, waitNanos / 1e6, Known.MEASURED)
            parts += LatencyPart(LatencyName.COMPUTE, computeNanos / 1e6, Known.MEASURED)
            if (playoutSamples != null) {
                parts +=
                    LatencyPart(LatencyName.OUTPUT_RESAMPLER, resamplerDelay(rate, deviceRateHz) * device, Known.EXACT)
                parts += LatencyPart(LatencyName.PLAYOUT_PREFILL, playoutSamples * device, Known.MEASURED)
                parts += LatencyPart(LatencyName.OUTPUT_ROUTE, playBlock * device, Known.STATED)
            }
            return LatencyLedger(parts)
        }
    }
}

/**
 * Notices audio that is missing: by the clock more frames must have come than did.
 *
 * Reads lag the microphone by a more or less constant number of frames. When the lag has lain above its baseline by
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
        if (baseline == Long.MAX_VALUE || lag < baseline) baseline = lag
        if (lag - baseline <= bufferFrames) {
            late = 0
            smallest = Long.MAX_VALUE
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
        const val PATIENCE = 8
        const val PATIENCE_NS = 100_000_000L
    }
}
