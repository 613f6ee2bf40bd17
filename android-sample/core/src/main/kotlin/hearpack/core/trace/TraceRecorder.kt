package hearpack.core.trace

import hearpack.core.audio.Port
import hearpack.core.stream.SoundEvent
import java.util.concurrent.atomic.AtomicInteger

enum class GapKind { CAPTURE_OVERRUN, CAPTURE_GAP, RING_OVERRUN, PLAYOUT_UNDERRUN, STALL, RESET }

/** Faults in fixed arrays: one writer, any reader, who sees whole rows. What does not fit is left out. */
internal class Rows(
    private val capacity: Int,
) {
    val values = Array(4) { LongArray(capacity) }
    private val count = AtomicInteger()

    val size: Int get() = count.get()

    /** Time of the first row that found no room; 0 where all did. */
    @Volatile var truncatedNs = 0L
        private set

    fun add(
        a: Long,
        b: Long,
        c: Long,
        d: Long,
    ) {
        val row = count.get()
        if (row == capacity) {
            if (truncatedNs == 0L) truncatedNs = a
            return
        }
        values[0][row] = a
        values[1][row] = b
        values[2][row] = c
        values[3][row] = d
        count.lazySet(row + 1)
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
 * inference call, and a stream may last for days. Times are nanoseconds since process start. [TraceWriter] makes the JSON.
 *
 * @param exact so many callbacks and calls are kept as they were at the begin, and as many at the end; those between are
 *     summed. 0 keeps none.
 */
class TraceRecorder(
    exact: Int = 20_000,
) {
    internal val callbacks =
        Log(exact, Join.FIRST, Join.FIRST, Join.SUM, Join.SAME, Join.FIRST, Join.FIRST, Join.LAST, Join.SUM)
    internal val inferences =
        Log(exact, Join.FIRST, Join.FIRST, Join.LAST, Join.MAX, Join.LAST, Join.SUM, Join.MAX, Join.SUM)
    private val callbackRow = LongArray(8)
    private val inferenceRow = LongArray(8)
    internal val captureGaps = Rows(MAX_GAPS)
    internal val workerGaps = Rows(MAX_GAPS)
    internal val playoutGaps = Rows(MAX_GAPS)
    internal val lock = Any()
    internal val routes = mutableListOf<RouteChange>()
    internal val thermal = mutableListOf<ThermalState>()
    internal val events = mutableListOf<Pair<SoundEvent, Long>>()

    private var listsTruncatedNs = 0L

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
        val row = callbackRow
        row[0] = timeNs
        row[1] = endNs
        row[2] = frames.toLong()
        row[3] = rateHz.toLong()
        row[4] = hardwareNs
        row[5] = hardwareFrame
        row[6] = timeNs
        row[7] = 1
        callbacks.add(row)
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
        val row = inferenceRow
        row[0] = beginNs
        row[1] = endNs
        row[2] = endSample
        row[3] = waitingSamples.toLong()
        row[4] = endNs
        row[5] = endNs - beginNs
        row[6] = endNs - beginNs
        row[7] = 1
        inferences.add(row)
    }

    fun route(change: RouteChange) = synchronized(lock) { kept(routes, change, change.timeNs) }

    fun thermal(state: ThermalState) = synchronized(lock) { kept(thermal, state, state.timeNs) }

    fun event(
        event: SoundEvent,
        timeNs: Long,
    ) = synchronized(lock) { kept(events, event to timeNs, timeNs) }

    private fun <T> kept(
        list: MutableList<T>,
        item: T,
        timeNs: Long,
    ) {
        if (list.size < MAX_GAPS) {
            list += item
        } else if (listsTruncatedNs == 0L) {
            listsTruncatedNs = timeNs
        }
    }

    /** When something first found no room: a fault, an event, a route or a thermal state; null where all did. */
    internal val truncatedNs: Long? get() =
        listOf(captureGaps.truncatedNs, workerGaps.truncatedNs, playoutGaps.truncatedNs, listsTruncatedNs)
            .filter { it > 0 }
            .minOrNull()

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
