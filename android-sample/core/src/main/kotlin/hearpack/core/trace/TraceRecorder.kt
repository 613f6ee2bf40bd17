package hearpack.core.trace

import hearpack.core.audio.Port
import hearpack.core.stream.SoundEvent
import java.util.concurrent.atomic.AtomicInteger

enum class GapKind { CAPTURE_OVERRUN, CAPTURE_GAP, RING_OVERRUN, PLAYOUT_UNDERRUN, STALL, RESET }

/** Rows of numbers in fixed arrays: one writer, any reader, who sees whole rows. What does not fit is left out. */
internal class Rows(
    private val capacity: Int,
    columns: Int,
) {
    val values = Array(columns) { LongArray(capacity) }
    private val count = AtomicInteger()

    val size: Int get() = count.get()
    val full: Boolean get() = count.get() == capacity

    /** The row to fill before [publish], or -1 if there is no room. */
    fun next(): Int = if (full) -1 else count.get()

    fun publish() = count.lazySet(count.get() + 1)

    fun add(
        a: Long,
        b: Long,
        c: Long,
        d: Long,
    ) {
        val row = next()
        if (row < 0) return
        values[0][row] = a
        values[1][row] = b
        values[2][row] = c
        values[3][row] = d
        publish()
    }
}

/** A change of route. */
data class RouteChange(
    val timeNs: Long,
    val input: Port,
    val output: Port,
    val rateHz: Int,
    val channels: Int,
    val reason: String?,
)

/** A thermal state, named as the trace's schema names it. */
data class ThermalState(
    val timeNs: Long,
    val state: String,
    val headroom: Double?,
)

/**
 * What a device trace is made of, recorded while audio runs: nothing is allocated by the capture thread or by an
 * inference call. Times are nanoseconds since process start. [TraceWriter] makes the JSON.
 */
class TraceRecorder(
    maxCallbacks: Int = 60_000,
    maxInferences: Int = 40_000,
) {
    internal val callbacks = Rows(maxCallbacks, 6)
    internal val inferences = Rows(maxInferences, 4)
    internal val captureGaps = Rows(MAX_GAPS, 4)
    internal val workerGaps = Rows(MAX_GAPS, 4)
    internal val playoutGaps = Rows(MAX_GAPS, 4)
    internal val lock = Any()
    internal val routes = mutableListOf<RouteChange>()
    internal val thermal = mutableListOf<ThermalState>()
    internal val events = mutableListOf<Pair<SoundEvent, Long>>()

    /** The error of the last inference recorded, if it failed. */
    @Volatile internal var lastError: String? = null

    @Volatile var coldStart = ColdStart()
        private set

    /** Any thread; once each at the start of things. */
    @Synchronized fun cold(update: (ColdStart) -> ColdStart) {
        coldStart = update(coldStart)
    }

    /** Samples captured before the model was ready, at the device's rate. */
    @Volatile var lostSamples = 0L

    /** Capture thread: a block came. [hardwareNs] is -1 where the hardware's time is not known. */
    fun callback(
        timeNs: Long,
        endNs: Long,
        frames: Int,
        rateHz: Int,
        hardwareNs: Long,
        hardwareFrame: Long,
    ) {
        val row = callbacks.next()
        if (row < 0) return
        val v = callbacks.values
        v[0][row] = timeNs
        v[1][row] = endNs
        v[2][row] = frames.toLong()
        v[3][row] = rateHz.toLong()
        v[4][row] = hardwareNs
        v[5][row] = hardwareFrame
        callbacks.publish()
    }

    /** Capture thread: audio was lost before or in our ring. */
    fun captureGap(
        timeNs: Long,
        kind: GapKind,
        samples: Int,
        rateHz: Int,
    ) = captureGaps.add(timeNs, kind.ordinal.toLong(), samples.toLong(), rateHz.toLong())

    /** Inference thread: a reset, or sound that the playout ring had no room for. */
    fun workerGap(
        timeNs: Long,
        kind: GapKind,
        samples: Int,
        rateHz: Int,
    ) = workerGaps.add(timeNs, kind.ordinal.toLong(), samples.toLong(), rateHz.toLong())

    /** Playback thread: too little was there in mid-stream. */
    fun playoutGap(
        timeNs: Long,
        samples: Int,
        rateHz: Int,
    ) = playoutGaps.add(timeNs, GapKind.PLAYOUT_UNDERRUN.ordinal.toLong(), samples.toLong(), rateHz.toLong())

    /** Inference thread: a call of the model. */
    fun inference(
        beginNs: Long,
        endNs: Long,
        endSample: Long,
        waitingSamples: Int,
        error: String?,
    ) {
        lastError = error
        inferences.add(beginNs, endNs, endSample, waitingSamples.toLong())
    }

    fun route(change: RouteChange) = synchronized(lock) { routes += change }

    fun thermal(state: ThermalState) = synchronized(lock) { thermal += state }

    fun event(
        event: SoundEvent,
        timeNs: Long,
    ) = synchronized(lock) { if (events.size < MAX_GAPS) events += event to timeNs }

    private companion object {
        const val MAX_GAPS = 2_000
    }
}

/** From process start to the first result; null: did not happen yet. Nanoseconds since process start. */
data class ColdStart(
    val appReadyNs: Long? = null,
    val bundleCheckedNs: Long? = null,
    val loadBeginNs: Long? = null,
    val loadEndNs: Long? = null,
    val firstCallBeginNs: Long? = null,
    val firstCallEndNs: Long? = null,
    val captureBeginNs: Long? = null,
    val firstDecisionNs: Long? = null,
    val weightCache: String = "none",
)
