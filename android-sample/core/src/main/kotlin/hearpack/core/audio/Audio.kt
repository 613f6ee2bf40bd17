package hearpack.core.audio

/** Monotonic nanoseconds; on Android elapsedRealtimeNanos, which does not stop in sleep. */
fun interface Clock {
    fun nanos(): Long
}

enum class Port(
    val inTrace: String,
) {
    BUILT_IN("built_in"),
    WIRED("wired"),
    USB("usb"),
    BLUETOOTH_HFP("bluetooth_hfp"),
    BLUETOOTH_LE("bluetooth_le"),
    BLUETOOTH_A2DP("bluetooth_a2dp"),
    HEARING_AID("hearing_aid"),
    FILE("file"),
    OTHER("other"),
    NONE("none"),
}

/** A capture set-up: what was asked for or what was given. */
data class CaptureFormat(
    val rateHz: Int,
    val channels: Int,
    val blockFrames: Int,
    val encoding: String,
    val mode: String,
    val source: String,
)

/** What capture was opened with. */
data class OpenedCapture(
    val requested: CaptureFormat,
    val granted: CaptureFormat,
    val port: Port,
    val output: Output,
)

/** Why capture cannot be opened or went away. */
enum class CaptureFault { NO_PERMISSION, TAKEN, ROUTE_CHANGED, UNAVAILABLE }

class CaptureException(
    val fault: CaptureFault,
    message: String,
) : Exception(message)

/** The microphone, or a fake of it. All calls but [silenced] and [interrupt] come from one thread. */
interface CaptureSource {
    /** @throws CaptureException it cannot be opened. */
    fun open(): OpenedCapture

    /**
     * Waits for the next block.
     *
     * @param target receives mono samples.
     * @return samples read, 0 if none came in time, or one of the codes below.
     */
    fun read(target: FloatArray): Int

    /**
     * The hardware's own time, if it is known: [into] receives frame and nanoseconds of the [Clock].
     *
     * @return whether it is known.
     */
    fun timestamp(into: LongArray): Boolean

    /** Whether another app holds the microphone and we are given silence. Any thread. */
    val silenced: Boolean

    /** Releases the microphone; harmless if called twice. */
    fun close()

    /** Any thread: the stream ends; a read that waits returns. */
    fun interrupt() = Unit

    companion object {
        /** The route is gone; open again. */
        const val ROUTE_CHANGED = -1

        /** The device failed. */
        const val FAILED = -2
    }
}

/** The speaker cannot be opened. */
class PlaybackException(
    message: String,
    cause: Throwable? = null,
) : Exception(message, cause)

/** Where an enhancer's sound goes. All calls come from one thread; the figures may be read by any. */
interface PlaybackSink {
    /**
     * @return the rate it plays at.
     * @throws PlaybackException it cannot be opened.
     */
    fun open(): Int

    /**
     * Plays mono samples; waits until they are taken.
     *
     * @return false where the output is dead: it has to be opened again.
     */
    fun write(
        samples: FloatArray,
        count: Int,
    ): Boolean

    /** From a sample's being handed over to its being heard, ns, measured; -1 where it is not known. */
    val latencyNanos: Long get() = -1

    /** Frames the system's buffer holds; 0 where it is not known. */
    val bufferFrames: Int get() = 0

    /** How often the system's buffer ran dry. */
    val underruns: Int get() = 0

    fun close()
}
