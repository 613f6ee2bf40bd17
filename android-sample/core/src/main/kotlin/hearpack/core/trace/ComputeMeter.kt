package hearpack.core.trace

import hearpack.core.audio.Clock
import hearpack.core.stream.CallMeter
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

    /** Time from the read that completed a buffer to its call's begin. */
    @Volatile var waitP50Nanos = 0L
        private set

    @Volatile var waitP95Nanos = 0L
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
        val needed = (endSample * come.rateHz + modelRateHz - 1) / modelRateHz
        waitingSamples = maxOf(0L, (come.kept - needed) * modelRateHz / come.rateHz).toInt()
        waits.add(maxOf(0L, began - come.whenCame(needed)))
        waitP50Nanos = waits.percentile(50)
        waitP95Nanos = waits.percentile(95)
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
