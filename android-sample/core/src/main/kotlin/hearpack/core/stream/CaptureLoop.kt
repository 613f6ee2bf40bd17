package hearpack.core.stream

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.RingBuffer
import hearpack.core.trace.GapDetector
import hearpack.core.trace.GapKind
import hearpack.core.trace.RouteChange
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val RING_SECONDS = 8 // the inference thread drops what waits beyond its limit
private const val REOPEN_TRIES = 20
private const val REOPEN_WAIT_MS = 250L

/**
 * The capture thread: reads a block, stamps it, puts it into the ring of its route; no lock and no allocation while a
 * route lasts. A change of route opens the microphone again.
 */
internal class CaptureLoop(
    private val source: CaptureSource,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val sleeper: Sleeper,
    private val running: AtomicBoolean,
) {
    /** The first stretch of one rate; each knows the next, so that none goes by unseen. */
    @Volatile var first: Segment? = null
        private set

    /** The last one opened. */
    @Volatile var segment: Segment? = null
        private set

    @Volatile var hardwareNanos = 0L
        private set

    @Volatile var ringOverruns = 0L
        private set

    @Volatile var captureGaps = 0L
        private set

    val silenced: Boolean get() = source.silenced

    /** Runs until the stream is stopped. */
    fun run() {
        var reason: String? = null
        try {
            while (running.get()) {
                val opened = if (reason == null) source.open() else reopen()
                val ring = RingBuffer(RING_SECONDS * opened.granted.rateHz)
                val now = clock.nanos()
                val g = opened.granted
                trace.route(RouteChange(now, opened.port, opened.output, g.rateHz, g.channels, reason))
                trace.cold { it.copy(captureBeginNs = it.captureBeginNs ?: now) }
                val before = segment
                val next = Segment(opened, ring)
                segment = next
                if (before == null) first = next else before.next = next
                before?.ended = true
                listener.onOpened(opened)
                val code = capture(next)
                if (code == CaptureSource.FAILED) {
                    throw CaptureException(CaptureFault.UNAVAILABLE, "the microphone stopped delivering")
                }
                source.close()
                reason = "route changed"
            }
        } finally {
            segment?.ended = true
            source.close()
        }
    }

    /** A new device may need a moment to appear. */
    private fun reopen(): OpenedCapture {
        var tries = 0
        while (true) {
            try {
                return source.open()
            } catch (e: CaptureException) {
                if (e.fault == CaptureFault.NO_PERMISSION || ++tries == REOPEN_TRIES || !running.get()) throw e
                sleeper.sleep(REOPEN_WAIT_MS)
            }
        }
    }

    /** Reads until the route changes, capture fails or the stream is stopped; returns why. */
    private fun capture(segment: Segment): Int {
        val granted = segment.opened.granted
        val block = FloatArray(maxOf(1, granted.blockFrames))
        val stamp = LongArray(2)
        val gaps = GapDetector(granted.rateHz, maxOf(granted.blockFrames * 4, granted.rateHz / 20))
        var read = 0L
        while (running.get()) {
            val n = source.read(block)
            if (n < 0) return n
            val now = clock.nanos()
            val known = source.timestamp(stamp)
            // The block's first frame, carried on from the hardware's last known frame.
            val hardware = if (known) stamp[1] + (read - stamp[0]) * 1_000_000_000L / granted.rateHz else -1L
            if (known && n > 0) hardwareNanos = maxOf(0L, now - hardware - n * 1_000_000_000L / granted.rateHz)
            val missing = gaps.read(now, n)
            if (missing > 0) {
                captureGaps += 1
                trace.captureGap(now, GapKind.CAPTURE_GAP, missing, granted.rateHz)
            }
            val taken = segment.ring.write(block, 0, n)
            segment.arrival.came(now, taken)
            if (taken < n) {
                ringOverruns += 1
                trace.captureGap(now, GapKind.RING_OVERRUN, n - taken, granted.rateHz)
            }
            trace.callback(now, clock.nanos(), n, granted.rateHz, hardware, if (known) read else -1L)
            read += n
        }
        return 0
    }
}
