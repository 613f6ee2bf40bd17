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
    FILE("file"),
    OTHER("other"),
    NONE("none"),
    ;

    /** Whether what is played cannot come back through the microphone. */
    val isHeadset: Boolean get() = this == WIRED || this == USB || this == BLUETOOTH_HFP || this == BLUETOOTH_LE
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
    val output: Port,
)

/** Why capture cannot be opened or went away. */
enum class CaptureFault { NO_PERMISSION, TAKEN, ROUTE_CHANGED, UNAVAILABLE }

class CaptureException(
    val fault: CaptureFault,
    message: String,
) : Exception(message)

/** The microphone, or a fake of it. All calls but [silenced] come from one thread. */
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

    companion object {
        /** The route is gone; open again. */
        const val ROUTE_CHANGED = -1

        /** The device failed. */
        const val FAILED = -2
    }
}

/** Where an enhancer's sound goes. */
interface PlaybackSink {
    /** @return the rate it plays at. */
    fun open(): Int

    /** Plays mono samples; waits until they are taken. */
    fun write(
        samples: FloatArray,
        count: Int,
    )

    fun close()
}
