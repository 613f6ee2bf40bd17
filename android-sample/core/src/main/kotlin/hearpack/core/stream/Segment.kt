package hearpack.core.stream

import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.RingBuffer
import hearpack.core.audio.ceilDiv
import hearpack.core.trace.Arrival

/** The samples of one route: its rate, its ring, and its loss. A change of route makes a new one. */
internal class Segment(
    val opened: OpenedCapture,
    val ring: RingBuffer,
) {
    val rateHz: Int get() = opened.granted.rateHz
    val arrival = Arrival(rateHz)

    /** So many [samples] at [modelRateHz], in samples of the device. */
    fun ofDevice(
        samples: Int,
        modelRateHz: Int,
    ): Int = ceilDiv(samples.toLong() * rateHz, modelRateHz.toLong()).toInt()

    /** When its first sample was captured, ns; 0 before it was. */
    @Volatile var beganNs = 0L

    /** Set by the capture thread when nothing more comes. */
    @Volatile var ended = false

    /** The stretch that follows, once it was opened. */
    @Volatile var next: Segment? = null
}
